"""The judge of other pruners, and what is handed to them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.envs.models import get_model
from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.verification import trace_exactly
from support.networks import Architecture
from support.promises import Inputs, random_plan, randomised

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from mobilenetv2_cifar import mobilenetv2
from peer_check import check_peer
from peer_cuts import macs

RESNET = Architecture("resnet20", lambda: get_model("resnet20", num_classes=10, in_channels=3), (3, 16, 16))


def dense() -> nn.Module:
    return randomised(RESNET.model())


def right(model: nn.Module, inputs: Inputs, heads: object) -> nn.Module:
    network = trace_exactly(dense(), inputs)
    return cut(model, network, random_plan(network, 0.3))


def wrong(model: nn.Module, inputs: Inputs, heads: object) -> nn.Module:
    """Cut rightly, then take the statistics of other filters for a layer."""
    smaller = right(model, inputs, heads)
    statistics = smaller.get_submodule("layer1.0.bn1").running_mean
    assert isinstance(statistics, torch.Tensor)
    statistics.copy_(statistics.roll(1))
    return smaller


def failing(model: nn.Module, inputs: Inputs, heads: object) -> nn.Module:
    raise RuntimeError("unsupported")


@pytest.mark.parametrize(
    ("peer", "runs", "problem"),
    [(right, True, ""), (wrong, True, "differs"), (failing, False, "unsupported")],
)
def test_a_peer_is_right_only_if_it_computes_what_the_masked_network_does(
    peer: object, runs: bool, problem: str
) -> None:
    inputs = tuple(x.double() for x in RESNET.example())
    verdict = check_peer(dense, inputs, ["linear"], peer)  # type: ignore[arg-type]
    assert verdict.runs is runs
    assert problem in verdict.problem
    assert bool(verdict.problem) is bool(problem)


def test_the_macs_of_one_example_are_counted() -> None:
    assert macs(RESNET.model(), torch.zeros(2, 3, 32, 32)) == 40_551_040


def test_mobilenetv2_for_small_images_keeps_their_size_in_the_first_convolutions() -> None:
    model = mobilenetv2().eval()
    with torch.no_grad():
        assert model.get_submodule("features")[:3](torch.zeros(1, 3, 32, 32)).shape[2:] == (32, 32)  # type: ignore[index]
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
