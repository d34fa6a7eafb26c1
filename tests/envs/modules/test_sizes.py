"""Sizes in modules' attributes are true: after a cut, after loading, and after the snippet in the docs."""

from __future__ import annotations

import json
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from secateur.envs.modules.sizes import fit_attributes, sizes_from_weights
from secateur.envs.surgery.cutting import cut, load_pruned, save_pruned
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import trace_exactly
from support.networks import OWN, Architecture, GroupedBothKinds
from support.pages import snippet
from support.promises import difference, outputs, random_plan


class BareNorms(nn.Module):
    """Norms without a tensor that would show their size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.instance = nn.Conv2d(3, 12, 3), nn.InstanceNorm2d(12)
        self.second, self.groups = nn.Conv2d(12, 16, 3), nn.GroupNorm(4, 16, affine=False)
        self.third, self.batch = nn.Conv2d(16, 10, 3), nn.BatchNorm2d(10, affine=False)
        self.head = nn.Conv2d(10, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.groups(self.second(F.relu(self.instance(self.first(x))))))
        return self.head(F.relu(self.batch(self.third(x))))


NETWORKS = [
    *OWN,
    Architecture("bare norms", BareNorms, (3, 12, 12)),
    Architecture("mobilenet_v2", partial(torchvision.models.mobilenet_v2, num_classes=10), (3, 32, 32)),
]
SLOW = [
    Architecture(name, partial(torchvision.models.get_model, name, weights=None, num_classes=10), (3, 64, 64))
    for name in ("densenet121", "shufflenet_v2_x0_5", "regnet_y_400mf", "convnext_tiny", "resnext50_32x4d")
]
each_network = pytest.mark.parametrize(
    "architecture",
    [*NETWORKS, *(pytest.param(network, marks=pytest.mark.slow) for network in SLOW)],
    ids=lambda architecture: architecture.name,
)


LISTS = str.maketrans("[]", "()")
"""JSON has no tuples."""


def sizes(module: nn.Module) -> dict[str, object]:
    """Read a module's sizes from the shapes of its tensors alone."""
    match module:
        case nn.modules.conv._ConvNd():
            first, second = module.weight.shape[:2]
            inputs, filters = (first, second) if module.transposed else (second, first)
            if module.transposed:
                return {"in_channels": inputs, "out_channels": filters * module.groups}
            return {"in_channels": inputs * module.groups, "out_channels": filters}
        case nn.Linear():
            return {"out_features": module.weight.shape[0], "in_features": module.weight.shape[1]}
        case nn.modules.batchnorm._NormBase():
            shown = [t for t in (module.weight, module.running_mean) if t is not None]
            return {"num_features": len(shown[0])} if shown else {}
        case nn.GroupNorm():
            return {"num_channels": len(module.weight)} if module.affine else {}
        case nn.LayerNorm():
            return {"normalized_shape": tuple(module.weight.shape)} if module.elementwise_affine else {}
        case nn.PReLU():
            return {"num_parameters": len(module.weight)}
    return {}


def check_true(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Compare every size with the shape of a weight, or with what really comes in."""
    model(*inputs)  # hooks compute masked weights
    for name, module in model.named_modules():
        for attribute, size in sizes(module).items():
            assert getattr(module, attribute) == size, f"{name}.{attribute}"

    def see(module: nn.Module, given: tuple[Tensor, ...], _: object) -> None:
        match module:
            case nn.modules.conv._ConvNd():
                assert module.in_channels == given[0].shape[1]
                assert module.out_channels % module.groups == module.in_channels % module.groups == 0
            case nn.modules.batchnorm._NormBase():
                assert module.num_features == given[0].shape[1]
            case nn.GroupNorm():
                assert module.num_channels == given[0].shape[1]
                assert module.num_channels % module.num_groups == 0
            case nn.Linear():
                assert module.in_features == given[0].shape[-1]

    handles = [module.register_forward_hook(see) for module in model.modules()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # norms without weights warn of another size
        model(*inputs)
    for handle in handles:
        handle.remove()


def rebuilt_by_snippet(build: object, folder: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """Run the page's lines in this process, with a module of one's own."""
    code = snippet("from mypackage.nets import build  #")
    lines = [line for line in code.splitlines() if "mypackage" not in line]
    names = {"build": build}
    monkeypatch.chdir(folder)
    exec("\n".join(lines), names)
    return names["model"]  # type: ignore[return-value]


@each_network
def test_every_size_is_true_after_the_cut_and_after_loading_with_and_without_secateur(
    architecture: Architecture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, inputs = architecture.model().eval(), architecture.example()
    network = trace_exactly(dense, inputs)
    plan = random_plan(network, 0.4)
    smaller = cut(dense, network, plan).eval()
    folder = tmp_path / "runs" / "my-run"
    folder.mkdir(parents=True)
    save_pruned(smaller, plan, folder)
    again = load_pruned(architecture.model, folder)
    check_true(smaller, inputs)
    check_true(again, inputs)
    assert str(again) == str(smaller)
    # The file has plain weights where a factory normalises or masks them, which the page does not know.
    if not getattr(smaller, "baked", False) and not prune.is_pruned(smaller):
        alone = rebuilt_by_snippet(architecture.model, tmp_path, monkeypatch)
        check_true(alone, inputs)
        assert (
            difference(outputs(alone, inputs), outputs(smaller, inputs)) < 1e-5
        )  # kernels depend on where a tensor lies in memory
        assert str(alone).replace("[", "(").replace("]", ")") == str(smaller).replace("[", "(").replace(
            "]", ")"
        )


def test_a_plan_of_version_0_1_has_no_sizes_of_modules_and_loads(tmp_path: Path) -> None:
    dense = GroupedBothKinds()
    network = trace_exactly(dense, torch.zeros(2, 3, 8, 8))
    plan = random_plan(network, 0.4)
    smaller = cut(dense, network, plan)
    save_pruned(smaller, plan, tmp_path)
    new = json.loads((tmp_path / "plan.json").read_text())
    old = new | {"attributes": dict(plan.attributes)}
    assert "depthwise.groups" in set(new["attributes"]) - set(old["attributes"])
    (tmp_path / "plan.json").write_text(json.dumps(old))
    assert str(load_pruned(GroupedBothKinds, tmp_path)) == str(smaller)


NORMED = {
    "old spectral norm": lambda: nn.utils.spectral_norm(nn.Conv2d(12, 12, 3, padding=1)),
    "new spectral norm": lambda: parametrizations.spectral_norm(nn.Conv2d(12, 12, 3, padding=1)),
    "old weight norm": lambda: nn.utils.weight_norm(nn.Conv2d(12, 12, 3, padding=1)),
    "new weight norm": lambda: parametrizations.weight_norm(nn.Conv2d(12, 12, 3, padding=1)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Conv2d(12, 12, 1)),
    "spectral norm of a batch-norm": lambda: nn.Sequential(
        nn.Conv2d(12, 12, 1), parametrizations.spectral_norm(nn.BatchNorm2d(12))
    ),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", NORMED)
def test_a_cut_of_nothing_leaves_all_buffers_in_training_mode(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), NORMED[name](), nn.ReLU(), nn.Conv2d(12, 2, 1))
    inputs = torch.randn(2, 3, 9, 9)
    model.train()(inputs)
    network = trace_exactly(model, inputs)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    smaller = cut(model, network, PruningPlan.dense(network))
    assert smaller.training
    for buffers in (dict(smaller.named_buffers()), dict(model.named_buffers())):
        assert buffers.keys() == before.keys()
        assert all(torch.equal(buffers[name], buffer) for name, buffer in before.items())


RECURRENT = [(nn.LSTM, {}), (nn.LSTM, {"proj_size": 3}), (nn.GRU, {}), (nn.RNN, {})]


@pytest.mark.parametrize(("kind", "more"), RECURRENT)
def test_the_sizes_of_recurrent_layers_follow_from_their_weights(
    kind: type[nn.RNNBase], more: dict[str, int]
) -> None:
    layer = kind(5, 4, num_layers=2, bidirectional=True, **more)
    true = (layer.input_size, layer.hidden_size, layer.proj_size)
    layer.input_size, layer.hidden_size, layer.proj_size = 9, 8, 7 if more else 0
    fit_attributes(layer)
    assert (layer.input_size, layer.hidden_size, layer.proj_size) == true


def test_the_size_of_a_layer_norm_follows_from_its_weight() -> None:
    model = nn.Sequential(nn.LayerNorm(6), nn.LayerNorm((3, 4)), nn.LayerNorm(5, elementwise_affine=False))
    model[0].normalized_shape = (9,)
    fit_attributes(model)
    assert [norm.normalized_shape for norm in model] == [(6,), (3, 4), (5,)]
    assert sizes_from_weights(model) == {"0.normalized_shape": (6,), "1.normalized_shape": (3, 4)}
