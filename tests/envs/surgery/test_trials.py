"""Trial cuts see what a trace does not: branches, thresholds of widths, and outputs that hide others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms

from secateur.envs.surgery.constrained_trace import constrain
from secateur.envs.surgery.constraints import Constraints
from secateur.envs.surgery.deterministic_mode import DeterministicMode
from secateur.envs.surgery.verification import trace_exactly, verify_cut
from secateur.envs.tracing import TracedNetwork
from support.promises import random_plan

IMAGES = torch.rand(2, 3, 8, 8)


class Network(nn.Module):
    """Two convolutions with a function after each, and a classifier with one after it."""

    def __init__(
        self,
        after_first: Callable[[Tensor], Tensor] = F.relu,
        after_second: Callable[[Tensor], Tensor] = F.relu,
        at_end: Callable[[Tensor, Tensor], Any] = lambda logits, hidden: logits,
    ) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 12, 3, padding=1)
        self.head = nn.Linear(12, 5)
        self.functions = after_first, after_second, at_end

    def forward(self, x: Tensor) -> Any:
        after_first, after_second, at_end = self.functions
        hidden = after_second(self.second(after_first(self.first(x))))
        return at_end(self.head(hidden.mean((2, 3))), hidden)


def names(network: TracedNetwork) -> list[str]:
    return [layer.name for layer in network.layers]


def by_size(x: Tensor) -> Tensor:
    x = F.relu(x)
    return x / x.shape[1] if x.shape[-1] > 64 else x


def test_a_branch_for_large_images_is_tried_on_large_images() -> None:
    network = trace_exactly(Network(after_second=by_size), torch.rand(2, 3, 96, 96))
    assert network.probe_shape == (3, 96, 96)
    assert names(network) == ["first"]


def test_a_network_without_such_a_branch_is_tried_on_small_images() -> None:
    network = trace_exactly(Network(), torch.rand(2, 3, 96, 96))
    assert network.probe_shape == (3, 64, 64)
    assert names(network) == ["first", "second"]


def test_a_layer_whose_width_is_compared_with_a_number_keeps_what_was_tried() -> None:
    model = Network(after_first=lambda x: F.relu(x) / min(x.shape[1], 4))
    network = trace_exactly(model, IMAGES)
    first, second = network.layers
    assert first.exact_from > 4
    assert list(first.allowed) == list(range(first.exact_from, 17))
    assert list(second.allowed) == list(range(1, 13))
    again = constrain(network, model, Constraints(round_to={"*": 2}))
    assert again.layers[0].allowed[0] >= first.exact_from


@pytest.mark.parametrize("number", [-math.inf, -1e9, torch.finfo(torch.float32).min])
def test_what_is_filled_in_does_not_hide_the_other_outputs(number: float) -> None:
    unwanted = torch.tensor([True, False, False, True, True])
    model = Network(at_end=lambda logits, hidden: logits.masked_fill(unwanted, number))
    assert trace_exactly(model, IMAGES).prunable_share == 1.0
    wrong = Network(
        after_second=lambda x: F.relu(x) / x.shape[1],
        at_end=lambda logits, hidden: (logits.masked_fill(unwanted, number), hidden.sum((1, 2, 3))),
    )
    assert names(trace_exactly(wrong, IMAGES)) == ["first"]


@pytest.mark.parametrize(
    "numbers", [lambda x: x.mean((2, 3)).tolist(), lambda x: tuple(x.shape), lambda x: {"width": x.shape[1]}]
)
def test_numbers_among_the_outputs_are_compared(numbers: Callable[[Tensor], Any]) -> None:
    network = trace_exactly(Network(at_end=lambda logits, hidden: (logits, numbers(hidden))), IMAGES)
    assert names(network) == ["first"]


def test_sparse_outputs_are_compared() -> None:
    model = Network(at_end=lambda logits, hidden: (logits, hidden.mean((2, 3)).to_sparse()))
    assert names(trace_exactly(model, IMAGES)) == ["first"]


def test_nested_tensors_are_refused_in_a_line() -> None:
    model = Network(at_end=lambda logits, hidden: torch.nested.nested_tensor([logits[0], logits[1, :3]]))
    with pytest.raises(ValueError, match="nested tensors cannot be followed; use padded ones"):
        trace_exactly(model, IMAGES)


def test_tensors_of_double_precision_in_attributes_follow_the_network() -> None:
    class Scaled(Network):
        scale: Tensor | None = None

        def forward(self, x: Tensor) -> Any:
            if self.scale is None:
                self.scale = torch.full((1, 3, 8, 8), 0.5, dtype=x.dtype)
            return super().forward(x * self.scale)

    model = Scaled().double()
    model(IMAGES.double())
    assert trace_exactly(model, IMAGES).prunable_share == 1.0


def by_halves(x: Tensor) -> Tensor:
    half = x.shape[1] // 2
    return torch.cat([x.narrow(1, 0, half) * 2, x.narrow(1, half, x.shape[1] - half)], 1)


def by_quarters(x: Tensor) -> Tensor:
    quarter = x.shape[1] // 4
    return torch.cat([x[:, :quarter] * 2, x[:, quarter:]], 1)


def by_thirds(x: Tensor) -> Tensor:
    return torch.cat([part * (number + 1) for number, part in enumerate(torch.tensor_split(x, 3, 1))], 1)


def by_chunks(x: Tensor) -> Tensor:
    return torch.cat([part * (number + 1) for number, part in enumerate(x.chunk(3, 1))], 1)


@pytest.mark.parametrize("parts", [by_halves, by_quarters, by_thirds, by_chunks])
def test_parts_by_their_share_of_the_channels_cannot_be_cut_one_by_one(
    parts: Callable[[Tensor], Tensor],
) -> None:
    assert names(trace_exactly(Network(after_first=lambda x: parts(F.relu(x))), IMAGES)) == ["second"]


def test_parts_that_are_tied_can_be_cut() -> None:
    def halves(x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        return torch.cat([left * 2, right], 1)

    assert trace_exactly(Network(after_first=halves), IMAGES).prunable_share == 1.0


def test_a_number_where_a_mask_says_so_pins_nothing() -> None:
    def filled(x: Tensor) -> Tensor:
        x = x.clone()
        x[x < 0.1] = 0.3
        return x

    assert trace_exactly(Network(after_first=filled), IMAGES).prunable_share == 1.0


def test_a_network_of_mixed_precision_is_traced_in_its_own() -> None:
    class Mixed(Network):
        def forward(self, x: Tensor) -> Any:
            return self.head(F.relu(self.second(F.relu(self.first(x)))).mean((2, 3)).bfloat16())

    model = Mixed()
    model.head.bfloat16()
    assert trace_exactly(model, IMAGES).prunable_share == 1.0


def test_a_network_that_answers_differently_each_time_is_refused() -> None:
    model = Network(at_end=lambda logits, hidden: logits + time.perf_counter())
    with pytest.raises(ValueError, match="answers differently each time"):
        trace_exactly(model, IMAGES)


def test_inputs_without_pixels_are_checked() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.conv, self.head = nn.Embedding(10, 8), nn.Conv1d(8, 16, 3), nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.conv(self.table(x).transpose(1, 2))).mean(2))

    model, words = Words(), torch.randint(0, 10, (2, 12))
    network = trace_exactly(model, words)
    assert verify_cut(model, network, random_plan(network, 0.4), words) < 1e-9


@pytest.mark.parametrize(
    "select",
    [
        lambda scores: scores.topk(2).indices,
        lambda scores: scores.sort(descending=True).indices,
        lambda scores: scores.argsort(stable=True),
        lambda scores: nms(torch.tensor([[0.0, 0.0, 8.0, 8.0]]).double().expand(3, 4), scores, 0.5),
    ],
    ids=["topk", "sort", "argsort", "nms"],
)
def test_rounding_does_not_choose_among_scores_that_are_equal(select: Callable[[Tensor], Tensor]) -> None:
    scores = torch.full((3,), 0.3, dtype=torch.float64)
    above = [scores + torch.eye(3).double()[k] * 6e-17 for k in range(3)]
    assert {tuple(select(rounded).tolist()) for rounded in above} != {tuple(select(above[0]).tolist())}
    with DeterministicMode(torch.float64):
        assert len({tuple(select(rounded).tolist()) for rounded in above}) == 1
        plain = torch.tensor([0.1, 0.4, 0.2], dtype=torch.float64)
        assert plain.sort().values.tolist() == [0.1, 0.2, 0.4]


class NeedsTargets(nn.Module):
    """Two convolutions, which train with targets alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor, targets: Tensor | None = None) -> Tensor:
        if self.training and targets is None:
            raise RuntimeError("targets are missing")
        return self.second(self.first(x).relu())


def test_a_network_that_needs_targets_to_train_is_traced_in_evaluation_mode_and_says_so() -> None:
    model = NeedsTargets().eval()
    network = trace_exactly(model, torch.randn(2, 3, 8, 8))
    assert [call.trains for call in network.calls] == [False]
    (note,) = network.notes
    assert "evaluation mode" in note
    assert verify_cut(model, network, random_plan(network, 0.5), torch.randn(2, 3, 8, 8)) < 1e-9
