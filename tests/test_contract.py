"""The contract of tracing and surgery, every promise on every model."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path

import pytest
from networks import OWN, Architecture
from promises import (
    Inputs,
    assert_counts_are_true,
    assert_survives_saving,
    assert_trains,
    masked_difference,
    random_plan,
    randomised,
    shifted,
)
from published import published
from secateur.envs.surgery import cut
from secateur.envs.tracing import TracedNetwork
from secateur.envs.verification import TOLERANCE, trace_exactly
from torch import nn

FAST = {*(a.name for a in OWN), "resnet18", "mobilenet_v2", "densenet121"}
ARCHITECTURES = {a.name: a for a in [*OWN, *published()]}

every_model = pytest.mark.parametrize(
    "architecture",
    [
        pytest.param(a, id=name, marks=() if name in FAST else pytest.mark.slow)
        for name, a in ARCHITECTURES.items()
    ],
)
by_sparsity = pytest.mark.parametrize("sparsity", [0.3, 0.6])


@cache
def traced(architecture: Architecture) -> tuple[nn.Module, TracedNetwork, Inputs]:
    model = randomised(architecture.model())
    inputs = tuple(x.double() for x in architecture.example())
    return model, trace_exactly(model, inputs), inputs


@every_model
@by_sparsity
def test_a_pruned_network_computes_what_the_masked_one_did_and_goes_on_living(
    architecture: Architecture, sparsity: float, tmp_path: Path
) -> None:
    model, network, inputs = traced(architecture)
    plan = random_plan(network, sparsity)
    assert masked_difference(model, network, plan, plan, inputs) <= TOLERANCE
    smaller = cut(model, network, plan)
    assert_counts_are_true(network, plan, smaller, inputs)
    assert_survives_saving(architecture.model, smaller, plan, inputs, tmp_path)
    assert_trains(smaller, inputs)


@every_model
def test_the_contract_notices_a_plan_that_is_shifted_by_one_filter(architecture: Architecture) -> None:
    model, network, inputs = traced(architecture)
    if not network.layers:
        pytest.skip("every layer is pinned")
    plan = random_plan(network, 0.3)
    # A filter that a ReLU silences on these inputs is missed by nobody: look at three layers.
    moved = itertools.islice(shifted(plan), 3)
    assert max(masked_difference(model, network, plan, other, inputs) for other in moved) > TOLERANCE
