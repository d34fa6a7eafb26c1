"""Batch-norm that is merged into the layers before it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from secateur.envs.models import get_model
from secateur.envs.surgery.export import export
from secateur.envs.surgery.norm_folding import fold_norms
from support.promises import difference, outputs, randomised


def folded(model: nn.Module, x: Tensor) -> tuple[nn.Module, int]:
    module = torch.export.export(model.eval(), (x,)).module()
    return module, fold_norms(module)  # type: ignore[arg-type]


class Around(nn.Module):
    """A layer and a batch-norm, and perhaps something else that reads or changes what is between them."""

    def __init__(self, layer: nn.Module, norm: nn.Module, how: str = "") -> None:
        super().__init__()
        self.layer, self.norm, self.how = layer, norm, how

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        match self.how:
            case "read":
                return self.norm(y) + y
            case "relu":
                return self.norm(y.relu())
            case "twice":
                return self.norm(y) + self.norm(self.layer(x * 2))
            case "batch statistics":
                return nn.functional.batch_norm(y, None, None, training=True)
        return self.norm(y)


IMAGES = torch.randn(4, 3, 7, 7, dtype=torch.float64)


@pytest.mark.parametrize(
    ("layer", "norm", "x"),
    [
        (nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), IMAGES),
        (nn.Conv2d(3, 6, 3, stride=2, padding="valid", bias=False), nn.BatchNorm2d(6), IMAGES),
        (nn.Conv2d(3, 6, 3, groups=3, padding="same"), nn.BatchNorm2d(6, affine=False), IMAGES),
        (nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6), IMAGES[:, :, 0]),
        (nn.Conv3d(4, 6, 3), nn.BatchNorm3d(6), IMAGES.view(1, 4, 3, 7, 7)),
        (nn.Linear(7, 6), nn.BatchNorm1d(6), IMAGES[:, 0, 0]),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_layer_computes_the_norm_after_it(layer: nn.Module, norm: nn.Module, x: Tensor) -> None:
    model = randomised(Around(layer, norm))
    module, count = folded(model, x)
    assert count == 1
    assert difference(outputs(model, (x,)), [module(x)]) <= 1e-12
    assert len(module.state_dict()) == 2, "the old weights and the statistics are gone"


@pytest.mark.parametrize("how", ["read", "relu", "batch statistics"])
def test_a_norm_stays_where_another_reads_what_it_reads(how: str) -> None:
    model = randomised(Around(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), how))
    module, count = folded(model, IMAGES)
    assert count == 0
    assert difference(outputs(model, (IMAGES,)), [module(IMAGES)]) == 0.0


def test_a_norm_over_another_axis_than_the_layers_stays() -> None:
    model = randomised(Around(nn.Linear(7, 6), nn.BatchNorm1d(3)))
    assert folded(model, IMAGES[:, :, 0])[1] == 0


def test_a_layer_that_runs_twice_is_right_both_times() -> None:
    model = randomised(Around(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), "twice"))
    module, count = folded(model, IMAGES)
    assert count == 2
    assert difference(outputs(model, (IMAGES,)), [module(IMAGES)]) <= 1e-12


@pytest.mark.parametrize("name", ["demo", "resnet20"])
def test_an_exported_network_has_no_norm_left(name: str, tmp_path: Path) -> None:
    build = partial(get_model, name, num_classes=10, in_channels=3)
    model = randomised(build()).float().eval()
    written = export(model, tmp_path / "model.pt2", "pt2", (3, 16, 16))
    assert written.difference <= 1e-4
    program = torch.export.load(tmp_path / "model.pt2")
    assert "batch_norm" not in program.graph_module.code
    assert not [key for key in program.state_dict if "running" in key]


def test_a_norm_that_would_change_the_outputs_when_merged_stays(tmp_path: Path) -> None:
    model = Around(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, eps=0.0)).eval()
    with torch.no_grad():
        model.layer.weight.fill_(1e-6)  # type: ignore[union-attr,operator]
        model.layer.bias.fill_(1e6)  # type: ignore[union-attr,operator]
        model.norm.running_mean.fill_(1e6)  # type: ignore[union-attr,operator]
        model.norm.running_var.fill_(1e-12)  # type: ignore[union-attr,operator]
    export(model, tmp_path / "model.pt2", "pt2", (1, 4, 4))
    assert "batch_norm" in torch.export.load(tmp_path / "model.pt2").graph_module.code
