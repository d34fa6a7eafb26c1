"""Exported networks: files that compute the same without the network's class, and without this package."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from secateur.envs.models import get_model
from secateur.envs.surgery import export as exporting
from secateur.envs.surgery.cutting import cut, save_pruned
from secateur.envs.surgery.export import export
from secateur.envs.surgery.verification import trace_exactly
from support.networks import GroupedBothKinds, MaskedWeights, SizesByAttribute, TwoInTwoOut, WeightNorms
from support.onnx import needs_onnx
from support.pages import snippet
from support.promises import outputs, random_plan

ALONE = """
import sys
for name in ("secateur", "torchvision"):
    sys.modules[name] = None  # importing it raises ImportError
"""

NETWORKS = {
    "demo": (partial(get_model, "demo", num_classes=10, in_channels=1), (1, 8, 8)),
    "resnet20": (partial(get_model, "resnet20", num_classes=10, in_channels=3), (3, 16, 16)),
    "resnet18": (partial(torchvision.models.resnet18, num_classes=10), (3, 32, 32)),
    "mobilenet_v2": (partial(torchvision.models.mobilenet_v2, num_classes=10), (3, 32, 32)),
    "shufflenet_v2_x0_5": (partial(torchvision.models.shufflenet_v2_x0_5, num_classes=10), (3, 32, 32)),
}


def pruned(model: nn.Module, *shapes: tuple[int, ...]) -> nn.Module:
    """Cut at random."""
    network = trace_exactly(model, tuple(torch.zeros(2, *shape) for shape in shapes))
    return cut(model, network, random_plan(network, 0.4)).eval()


def alone(program: str, folder: Path) -> str:
    """Run a program in a process that cannot import secateur, in a folder, and give what it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    words = [sys.executable, "-c", ALONE + program]
    done = subprocess.run(words, cwd=folder, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_onnx
@pytest.mark.parametrize(
    "name",
    [
        name if name in ("demo", "resnet20") else pytest.param(name, marks=pytest.mark.slow)
        for name in NETWORKS
    ],
)
def test_a_pruned_network_computes_the_same_in_onnx(name: str, tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    build, shape = NETWORKS[name]
    model = pruned(build(), shape)
    written = export(model, tmp_path / "model.onnx", "onnx", shape)
    assert written.opset is not None
    assert written.difference <= 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    # Once more, without the package's own check.
    onnx.checker.check_model(str(written.path))
    session = onnxruntime.InferenceSession(str(written.path), providers=["CPUExecutionProvider"])
    (fed,) = session.get_inputs()
    assert fed.shape == ["batch", *shape]
    for batch in (1, 5):
        x = torch.randn(batch, *shape)
        (found,) = session.run(None, {fed.name: x.numpy()})
        (expected,) = outputs(model, (x,))
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)


def test_pt2_runs_where_neither_secateur_nor_the_class_can_be_imported(tmp_path: Path) -> None:
    build, shape = NETWORKS["demo"]
    model = pruned(build(), shape)
    export(model, tmp_path / "model.pt2", "pt2", shape)
    images = torch.randn(7, *shape)
    save_file({"images": images, "expected": outputs(model, (images,))[0]}, tmp_path / "io.safetensors")
    said = alone(
        """
import torch
from safetensors.torch import load_file
io = load_file("io.safetensors")
model = torch.export.load("model.pt2").module()
for batch in (1, 7):
    torch.testing.assert_close(model(io["images"][:batch]), io["expected"][:batch])
    print(batch)
""",
        tmp_path,
    )
    assert said.split() == ["1", "7"]


def test_several_inputs_and_outputs_share_the_batch(tmp_path: Path) -> None:
    model = pruned(TwoInTwoOut(), (3, 8, 8), (5,))
    export(model, tmp_path / "model.pt2", "pt2", (3, 8, 8), (5,))
    again = torch.export.load(tmp_path / "model.pt2").module()
    inputs = torch.randn(4, 3, 8, 8), torch.randn(4, 5)
    assert set(again(*inputs)) == {"label", "map"}


@pytest.mark.parametrize("build", [MaskedWeights, WeightNorms])
def test_masks_and_normalised_weights_become_plain_ones(build: type[nn.Module], tmp_path: Path) -> None:
    model = pruned(build(), (3, 8, 8))
    before = list(model.state_dict())
    assert export(model, tmp_path / "model.pt2", "pt2", (3, 8, 8)).difference <= 1e-4
    assert list(model.state_dict()) == before
    export(model, tmp_path / "state.safetensors", "safetensors")
    names = load_file(tmp_path / "state.safetensors")
    assert {name.split(".")[-1] for name in names} == {"weight", "bias"}


def test_a_state_dict_is_what_torch_gives(tmp_path: Path) -> None:
    build, shape = NETWORKS["resnet20"]
    model = pruned(build(), shape)
    export(model, tmp_path / "state.safetensors", "safetensors")
    found = load_file(tmp_path / "state.safetensors")
    assert set(found) == set(model.state_dict())
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())


class FixedBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).reshape(2, -1)


class ReadsValues(FixedBatch):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.sum() > 0 else -x


@pytest.mark.parametrize("build", [FixedBatch, ReadsValues])
def test_what_torch_cannot_export_is_one_sentence_and_no_file(build: type[nn.Module], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"torch\.export cannot handle this network: .") as caught:
        export(build(), tmp_path / "model.pt2", "pt2", (3, 8, 8))
    assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


@needs_onnx
def test_what_has_no_kernel_in_onnxruntime_is_one_sentence_and_no_file(tmp_path: Path) -> None:
    in_half = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).bfloat16()  # torch writes it, no CPU runs it
    with pytest.raises(ValueError, match=r"onnxruntime cannot load .* try another --format$") as caught:
        export(in_half, tmp_path / "model.onnx", "onnx", (3, 8, 8))
    assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_file_that_computes_something_else_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="nothing was written"):
        export(nn.Conv2d(3, 2, 1), tmp_path / "model.pt2", "pt2", (3, 4, 4))
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_and_folders_are_not_made(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_text("mine")
    with pytest.raises(ValueError, match="nothing is overwritten"):
        export(nn.Conv2d(3, 2, 1), tmp_path / "model.pt2", "pt2", (3, 4, 4))
    assert (tmp_path / "model.pt2").read_text() == "mine"
    with pytest.raises(ValueError, match="there is no folder"):
        export(nn.Conv2d(3, 2, 1), tmp_path / "new" / "model.pt2", "pt2", (3, 4, 4))


def test_a_missing_package_is_named_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(ValueError, match=r"ONNX needs onnxruntime; .* pip install 'secateur\[onnx\]'"):
        export(nn.Conv2d(3, 2, 1), tmp_path / "model.onnx", "onnx", (3, 4, 4))


class OneChannelAndNorms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 1, 3), nn.GroupNorm(1, 1)
        self.more, self.groups = nn.Conv2d(1, 12, 3), nn.GroupNorm(4, 12)
        self.batch = nn.BatchNorm2d(12)
        self.last = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.batch(self.groups(self.more(self.norm(self.first(x)))))))


@pytest.mark.parametrize(
    "network",
    [
        GroupedBothKinds,
        pytest.param(SizesByAttribute, marks=pytest.mark.slow),
        pytest.param(OneChannelAndNorms, marks=pytest.mark.slow),
    ],
)
def test_the_snippet_of_the_page_rebuilds_a_network_without_secateur(
    network: type[nn.Module], tmp_path: Path
) -> None:
    traced = trace_exactly(dense := network(), torch.zeros(2, 3, 8, 8))
    plan = random_plan(traced, 0.4)
    model = cut(dense, traced, plan).eval()
    run = tmp_path / "runs" / "my-run"
    run.mkdir(parents=True)
    save_pruned(model, plan, run)
    images = torch.randn(2, 3, 8, 8)
    save_file({"images": images, "expected": outputs(model, (images,))[0]}, tmp_path / "io.safetensors")
    (tmp_path / "mypackage").mkdir()
    imports = "import torch, torch.nn.functional as F\nfrom torch import Tensor, nn\n\n"
    code = imports + inspect.getsource(network) + f"\n\nbuild = {network.__name__}\n"
    (tmp_path / "mypackage" / "nets.py").write_text(code)
    check = """
import torch
io = load_file("io.safetensors")
with torch.no_grad():
    torch.testing.assert_close(model(io["images"]), io["expected"], rtol=1e-5, atol=1e-6)
print(sum(p.numel() for p in model.parameters()))
"""
    said = alone(snippet("from mypackage.nets import build  #") + check, tmp_path)
    assert (
        int(said) == sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in dense.parameters())
    )
