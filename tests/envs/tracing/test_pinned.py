"""Equal reasons are summed up, whatever the number of layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from secateur.envs.tracing import Cause, PinnedLayer, trace
from secateur.envs.tracing.pinned import sum_up


def pinned(name: str, cause: Cause) -> PinnedLayer:
    return PinnedLayer(name, 8, 6, 0, cause)


def test_one_reason_in_many_modules_is_one_entry() -> None:
    causes = [Cause("averages", "norm", f"blocks.{n}.norm", "net.py:7") for n in range(3)]
    (entry,) = sum_up(pinned(f"blocks.{n}.conv", cause) for n, cause in enumerate(causes))
    assert str(entry) == (
        "blocks.{0-2}.conv: 18 of 24 filters stay: averages in blocks.{0-2}.norm (net.py:7)"
    )


def test_a_source_is_given_only_if_it_is_that_of_all() -> None:
    causes = [Cause("averages", "norm", "a", "net.py:7"), Cause("averages", "norm", "b", "net.py:9")]
    (entry,) = sum_up(pinned(cause.module, cause) for cause in causes)
    assert str(entry) == "a, b: 12 of 16 filters stay: averages in a, b"


def test_reasons_that_differ_only_in_numbers_are_equal_and_others_are_not() -> None:
    reasons = ["differs by 1.2e-03", "differs by 4e+1", "does not run: size 3", "does not run: width 3"]
    entries = sum_up(pinned(reason, Cause(reason)) for reason in reasons)
    assert [len(entry.names) for entry in entries] == [2, 1, 1]


def test_long_lists_of_names_end_with_how_many_more_there_are() -> None:
    names = [".".join("x" * depth) + f".{'abcdefgh'[depth]}" for depth in range(1, 8)]
    (entry,) = sum_up(pinned(name, Cause("averages")) for name in names)
    assert str(entry).startswith(f"{', '.join(names[:6])}, and 1 more: 42 of 56 filters stay")
    assert entry.names == tuple(names)


class Stream(nn.Module):
    """Many blocks whose channels a layer-norm averages over."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, 16), nn.Linear(16, 3)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16)) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def test_a_trace_of_many_blocks_is_told_in_a_few_lines() -> None:
    network = trace(Stream(40), torch.randn(2, 6))
    assert len(network.pinned) == 42
    lines = str(network).splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("stem, blocks.{0-39}.1: 656 of 656 filters stay: layer-norm averages")
