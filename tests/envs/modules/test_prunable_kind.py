"""A network that cannot be cut as given gets one line that says what to give instead."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.envs.modules.prunable_kind import check_prunable_kind
from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import trace_exactly

INPUTS = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.first(x)).relu().mean((2, 3)))


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.LazyConv2d(8, 3), nn.LazyLinear(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).relu().mean((2, 3)))


def prepared() -> nn.Module:
    model = Network().train()
    model.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")  # type: ignore[assignment]
    return torch.ao.quantization.prepare_qat(model)


def observed() -> nn.Module:
    model = Network().eval()
    model.qconfig = torch.ao.quantization.get_default_qconfig("fbgemm")  # type: ignore[assignment]
    return torch.ao.quantization.prepare(model)


def dynamic() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(Network().eval(), {nn.Linear}, dtype=torch.qint8)


def static() -> nn.Module:
    model = observed()
    model(INPUTS)
    return torch.ao.quantization.convert(model)


def half_scripted() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 1), torch.jit.script(Network()))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: torch.jit.script(Network()), "the network is compiled by torch.jit.*give the module"),
        (lambda: torch.jit.trace(Network().eval(), INPUTS), "the network is compiled by torch.jit"),
        (half_scripted, "the module 1 is compiled by torch.jit"),
        (prepared, "is prepared for quantisation; give the network before that"),
        (observed, "is prepared for quantisation; give the network before that"),
        (dynamic, "the module head is quantised; give the network with floating-point weights"),
        (static, "the module first is quantised; give the network with floating-point weights"),
        (
            lambda: Network().to("meta"),
            "first.weight is on the meta device.*give the network with its",
        ),
        (Lazy, r"first.weight has no shape yet; give the network after its first pass, model\(example\)"),
    ],
)
def test_one_line_says_what_to_give_instead(build: Callable[[], nn.Module], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        trace_exactly(build(), INPUTS)
    assert "\n" not in str(caught.value)


def test_what_is_no_module_is_refused_by_its_type() -> None:
    with pytest.raises(TypeError, match=r"the network is a dict; give a torch.nn.Module"):
        check_prunable_kind({})


def run_once() -> nn.Module:
    model = Lazy()
    model(INPUTS)
    return model


def exported() -> Any:
    return torch.export.export(Network().eval(), (INPUTS,)).module()


def fused() -> nn.Module:
    """A network of torchvision's that is ready for quantisation but still has floating-point weights."""

    class Ready(Network):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub()
            self.add = torch.ao.nn.quantized.FloatFunctional()

        def forward(self, x: Tensor) -> Tensor:
            return self.leave(super().forward(self.add.add(self.enter(x), x)))

    return Ready()


@pytest.mark.parametrize(
    "build",
    [
        run_once,
        fused,
        lambda: nn.DataParallel(Network(), device_ids=[]),
        lambda: torch.compile(Network(), backend="eager"),
        lambda: torch.fx.symbolic_trace(Network()),
        lambda: torch.inference_mode()(Network)(),
        lambda: Network().bfloat16(),
        lambda: Network().requires_grad_(False),
        exported,
    ],
)
def test_networks_of_other_kinds_are_cut(build: Callable[[], nn.Module]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build()
        network = trace_exactly(model, INPUTS)
    (layer,) = network.layers
    mask = torch.arange(layer.filters).numpy() < 3
    smaller = cut(model, network, PruningPlan.from_masks(network, [mask]))
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
