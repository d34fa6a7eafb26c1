"""When a check of a cut is made again with other weights and inputs, and what is refused all the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.models.segnet import SegNet
from secateur.envs.surgery import probe
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import TOLERANCE, InexactCutError, trace_exactly, verify_cut
from secateur.envs.tracing import TracedNetwork, trace
from support.promises import random_plan

IMAGES = torch.rand(2, 3, 8, 8)


class RoundingDecides(nn.Module):
    """Take one of two equal values, as a max-pooling does that meets both, while its gate is open.

    A value times the number of channels by that number is the value itself but for rounding, which another
    number of channels does elsewhere.
    """

    def __init__(self, gate: float) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1)
        self.gate = nn.Parameter(torch.tensor(gate))

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.conv(x))
        channels, value = hidden.shape[1], self.head(hidden)
        return value + (value * channels / channels > value) if self.gate > 0.5 else value


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note which draws are made."""
    numbers: list[int] = []
    own = probe.randomised

    def noted(model: nn.Module, number: int = 0, *rest: Any) -> nn.Module:
        numbers.append(number)
        return own(model, number, *rest)

    monkeypatch.setattr(probe, "randomised", noted)
    return numbers


def halved(network: TracedNetwork) -> PruningPlan:
    return PruningPlan.from_masks(network, [np.arange(n.filters) % 2 == 0 for n in network.layers])


def test_a_trace_and_a_check_of_an_exact_cut_take_two_draws_each(drawn: list[int]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 1))
    network = trace_exactly(model, IMAGES)
    assert verify_cut(model, network, halved(network), IMAGES) <= TOLERANCE
    assert drawn == [0, 1, 0, 1]


def test_a_cut_that_rounding_decides_about_in_one_draw_is_exact(drawn: list[int]) -> None:
    model = RoundingDecides(gate=1.0)  # open as far as it is shaken, shut when it is drawn afresh
    network = trace_exactly(model, IMAGES)
    assert network.prunable_share == 1.0
    drawn.clear()
    plan = PruningPlan.from_masks(network, [np.arange(8) < 5])
    assert verify_cut(model, network, plan, IMAGES) <= TOLERANCE
    assert drawn == [0, 1, 2]


def test_removing_a_filter_alone_that_no_input_wakes_is_exact() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 1))
    with torch.no_grad():
        model[0].bias[2] = -100.0
    network = trace_exactly(model, IMAGES)
    plan = PruningPlan({"0": (0, 1, 3, 4, 5)}, {"0": 6})
    assert verify_cut(model, network, plan, IMAGES) <= TOLERANCE


def rolled(network: TracedNetwork) -> TracedNetwork:
    """Let the reader of the first layer's channels take them for their neighbours."""
    first, *rest = network.layers
    slices = tuple(
        dataclasses.replace(s, index=np.roll(s.index, 1, axis=0)) if s.role == "input_channel" else s
        for s in first.slices
    )
    return dataclasses.replace(network, layers=(dataclasses.replace(first, slices=slices), *rest))


def untied(network: TracedNetwork) -> TracedNetwork:
    """Let batch-norm's scales belong to the neighbours."""
    first, *rest = network.layers
    slices = tuple(
        dataclasses.replace(s, index=np.roll(s.index, 1, axis=0)) if s.role == "per_channel" else s
        for s in first.slices
    )
    return dataclasses.replace(network, layers=(dataclasses.replace(first, slices=slices), *rest))


@pytest.mark.parametrize("seeded", [rolled, untied])
def test_a_wrong_cut_stays_refused_whatever_is_drawn(
    seeded: Callable[[TracedNetwork], TracedNetwork], drawn: list[int]
) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1))
        wrong = seeded(trace(model, IMAGES))
        with pytest.raises(InexactCutError, match="differs from the masked one by"):
            verify_cut(model, wrong, random_plan(wrong, 0.4, seed), IMAGES)
    assert set(drawn) == {0, 1}  # two draws against it are enough


def test_a_cut_network_that_does_not_run_is_refused_at_once(drawn: list[int]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 1))
    network = trace(model, IMAGES)
    (layer,) = network.layers
    slices = tuple(s for s in layer.slices if s.role != "input_channel")
    wrong = dataclasses.replace(network, layers=(dataclasses.replace(layer, slices=slices),))
    with pytest.raises(InexactCutError, match="does not run"):
        verify_cut(model, wrong, halved(wrong), IMAGES)
    assert drawn == [0]


@pytest.mark.parametrize("seed", range(8))
def test_all_of_a_narrow_segnet_can_be_pruned_whatever_its_weights(seed: int) -> None:
    torch.manual_seed(seed)
    model = SegNet(5, 3, width=4)
    network = trace_exactly(model, torch.zeros(2, 3, 32, 32))
    assert network.prunable_share == 1.0
    assert verify_cut(model, network, random_plan(network, 0.5, seed), torch.zeros(2, 3, 32, 32)) <= TOLERANCE
