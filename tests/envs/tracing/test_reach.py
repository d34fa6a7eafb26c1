"""Modules that no traced call reaches are named, and what may share channels with them stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import trace_exactly, verify_cut
from secateur.envs.tracing import TracedNetwork, trace
from support.networks import TiedWeights

SMALL, LARGE = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 40, 40)


class ManyWays(nn.Module):
    """A branch for large inputs, a method beside ``forward``, and a module that nothing uses."""

    def __init__(self, dead: nn.Module | None = None) -> None:
        super().__init__()
        self.stem, self.small = nn.Conv2d(3, 16, 3, 1, 1), nn.Conv2d(16, 24, 3, 2, 1)
        self.large = nn.Conv2d(16, 24, 3, 4, 1)
        self.middle, self.head, self.projection = nn.Conv2d(24, 20, 1), nn.Linear(20, 5), nn.Linear(20, 8)
        if dead is not None:
            self.dead = dead

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.small(x) if x.shape[-1] <= 32 else self.large(x))
        return F.relu(self.middle(x)).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    def embed(self, x: Tensor) -> Tensor:
        return self.projection(self.features(x))


class Small(ManyWays):
    """Everything but what ``dead`` is reached by forward."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        stem = F.relu(self.stem(x))
        x = F.relu(self.middle(F.relu(self.small(stem)) + F.relu(self.large(stem)).repeat(1, 1, 2, 2)))
        return self.head(x.mean((2, 3))), self.projection(x.mean((2, 3)))


class Concatenated(nn.Module):
    def __init__(self, dead: nn.Module) -> None:
        super().__init__()
        self.one, self.two, self.other = nn.Conv2d(3, 6, 3), nn.Conv2d(3, 7, 3), nn.Conv2d(13, 9, 3)
        self.head, self.dead = nn.Linear(9 * 12 * 12, 5), dead

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(torch.cat([self.one(x), self.two(x)], 1))
        return self.head(F.relu(self.other(x)).flatten(1))


class Literal(ManyWays):
    """The method beside ``forward`` has a constant that ``forward`` does not have."""

    def embed(self, x: Tensor) -> Tensor:
        return self.projection(self.features(x)[:, :20] * torch.ones(20))


def stays(network: TracedNetwork) -> dict[str, int]:
    """Count the filters that stay because of what was not reached."""
    return {p.name: p.pinned for p in network.pinned if p.cause.operation == "unreached"}


def halved(network: TracedNetwork) -> PruningPlan:
    return PruningPlan.from_masks(network, [np.arange(la.filters) % 2 == 0 for la in network.layers])


def test_what_is_not_reached_is_named_and_what_it_may_read_or_join_stays() -> None:
    network = trace(ManyWays(), SMALL)
    assert network.unreached == ("large", "projection")
    assert stays(network) == {"stem": 16, "small": 24, "middle": 20}
    assert "60 filters, which may share channels with them, stay" in " ".join(network.notes)
    assert network.notes[0] in str(network)


@pytest.mark.parametrize("calls", [["embed", LARGE], [("embed", LARGE)], [("embed", (LARGE,)), SMALL]])
def test_more_calls_free_what_they_reach(calls: list[Any]) -> None:
    model = ManyWays()
    network = trace_exactly(model, SMALL, also_trace=calls)
    assert (network.unreached, network.notes, network.prunable_share) == ((), (), 1.0)
    assert [layer.producers for layer in network.layers] == [("stem",), ("small", "large"), ("middle",)]
    plan = halved(network)
    assert verify_cut(model, network, plan, SMALL) < 1e-9
    smaller = cut(model, network, plan)
    assert smaller(LARGE).shape == (2, 5)
    assert smaller.embed(LARGE).shape == smaller.embed(SMALL).shape == (2, 8)


def test_macs_and_parameters_are_those_of_the_example() -> None:
    model = ManyWays()
    alone, network = trace(model, SMALL), trace(model, SMALL, also_trace=["embed", LARGE])
    assert float(network.macs(network.widths)) == float(alone.macs(alone.widths))
    assert float(network.params(network.widths)) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("dead", "kept"),
    [
        (nn.Linear(7, 9), {}),
        (nn.Conv2d(20, 7, 1), {"middle": 20}),
        (nn.Conv2d(7, 16, 1), {"stem": 16}),
        (nn.Conv2d(24, 48, 3, groups=12), {"small": 24, "large": 24}),
        (nn.ConvTranspose2d(48, 24, 3, groups=12), {"small": 24, "large": 24}),
        (nn.BatchNorm2d(20), {"middle": 20}),
    ],
)
def test_only_channels_of_fitting_number_stay(dead: nn.Module, kept: dict[str, int]) -> None:
    network = trace(Small(dead), SMALL)
    assert network.unreached == ("dead",)
    assert stays(network) == kept
    assert len(network.layers) == 3 - len(set(kept.values()))


@pytest.mark.parametrize(
    ("dead", "kept"),
    [
        (nn.Conv2d(13, 2, 1), {"one": 6, "two": 7}),
        (nn.Conv2d(7, 2, 1), {"two": 7}),
        (nn.Linear(9 * 12 * 12, 2), {"other": 9}),
    ],
)
def test_concatenated_and_flattened_channels_are_counted_together(
    dead: nn.Module, kept: dict[str, int]
) -> None:
    assert stays(trace(Concatenated(dead), torch.randn(2, 3, 16, 16))) == kept


def test_a_parameter_of_the_network_itself_goes_by_its_name() -> None:
    model = Small()
    model.register_parameter("scale", nn.Parameter(torch.ones(1, 20, 1, 1)))
    network = trace(model, SMALL)
    assert (network.unreached, stays(network)) == (("scale",), {"middle": 20})


def test_a_parameter_that_two_modules_share_is_reached_by_either() -> None:
    assert trace(TiedWeights(), torch.randn(2, 3, 8, 8)).unreached == ()


def test_auxiliary_heads_are_reached_in_training_mode() -> None:
    class Auxiliary(ManyWays):
        def forward(self, x: Tensor) -> Any:
            features = self.features(x)
            return (self.head(features), self.projection(features)) if self.training else self.head(features)

    assert trace(Auxiliary(), SMALL).unreached == ("large",)


def test_cuts_are_tried_on_every_call() -> None:
    network = trace_exactly(Literal(), SMALL, also_trace=["embed", LARGE])
    (pinned,) = [layer for layer in network.pinned if layer.name == "middle"]
    assert pinned.pinned == 20
    assert [layer.name for layer in network.layers] == ["stem", "small"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("embd", r"embd\(\) of the network does not run.*no method 'embd', did you mean 'embed'\?"),
        (torch.zeros(2, 4, 8, 8), r"the network does not run on an input of \(2, 4, 8, 8\)"),
        (
            ("embed", torch.zeros(2, 4, 8, 8)),
            r"embed\(\) of the network does not run on an input of \(2, 4, 8",
        ),
        (("embed", (3, 8, 8)), r"the example is the shape \(3, 8, 8\); give a batch of inputs"),
    ],
)
def test_a_call_that_does_not_run_is_named(call: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        trace(ManyWays(), SMALL, also_trace=[call])


@pytest.mark.parametrize("call", ["embed", LARGE])
def test_a_single_call_needs_no_list(call: Any) -> None:
    both: Callable[[Any], TracedNetwork] = lambda calls: trace(ManyWays(), SMALL, also_trace=calls)  # noqa: E731
    assert both(call).unreached == both([call]).unreached != ("large", "projection")
