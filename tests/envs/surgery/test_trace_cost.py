"""A trace with its trial cuts costs a few passes of the network, counted in floating-point operations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from secateur.envs.models import get_model
from secateur.envs.surgery.verification import trace_exactly
from support.networks import UNet
from support.yolos import YOLOv8


def passes(model: nn.Module, pixels: int) -> float:
    """Return the operations of a trace, divided by those of an evaluation pass on the same examples."""
    example = torch.randn(2, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as one, torch.no_grad():
        model.eval()(example)
    with FlopCounterMode(display=False) as trace:
        trace_exactly(model, example)
    return trace.get_total_flops() / one.get_total_flops()


@pytest.mark.parametrize(
    "build",
    [partial(get_model, "resnet20", num_classes=10, in_channels=3), UNet, YOLOv8],
    ids=["resnet20", "unet", "yolov8"],
)
def test_a_trace_costs_ten_passes_where_no_smaller_input_is_traced_alike(
    build: Callable[[], nn.Module],
) -> None:
    assert passes(build(), 32) < 11


@pytest.mark.parametrize("build", [UNet, YOLOv8], ids=["unet", "yolov8"])
def test_on_large_inputs_it_costs_three(build: Callable[[], nn.Module]) -> None:
    """Trial cuts run on a crop."""
    assert passes(build(), 256) < 4
