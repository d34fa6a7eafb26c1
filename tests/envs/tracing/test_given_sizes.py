"""Each way in which forward code gives a size to torch shows which attribute it comes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.surgery.verification import TOLERANCE, trace_exactly, verify_cut
from support.made import conv, forward_of
from support.promises import random_plan

IMAGES = torch.randn(2, 3, 14, 14)
"""As many pixels as channels, so that equal numbers have to be told apart by their place."""

SCALE = nn.Parameter(torch.tensor(2.0))


def narrowed(self: Any, x: Tensor) -> Tensor:
    return self.head(self.conv(x).narrow(1, self.cut, self.rest))


def sliced_from_the_end(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    return self.head(x[..., -self.rest :, :, :]) + self.other(x[:, : self.cut])


def sliced_in_the_middle(self: Any, x: Tensor) -> Tensor:
    x, end = self.conv(x)[:, :, 1 : self.side], self.cut + self.rest
    return self.head(x[:, self.cut : end]) + self.other(torch.cat([x[:, end:], x[:, : self.cut]], 1))


def cut_at_positions(self: Any, x: Tensor) -> Tensor:
    one, two = self.conv(x).tensor_split((self.cut,), dim=1)
    return self.other(one) + self.head(two)


def split_by_difference(self: Any, x: Tensor) -> Tensor:
    one, two = self.conv(x).split([self.cut, self.total - self.cut], 1)
    return self.other(one) + self.head(two)


def unflattened(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x).unflatten(1, (self.groups, self.rest))
    return self.head(x.sum(1))


def state(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    empty = x.new_zeros(x.shape[0], self.total, self.side, self.side)
    return self.head(torch.maximum(x, empty))


def expanded(self: Any, x: Tensor) -> Tensor:
    scale = self.scale.view(1, 1, 1, 1).expand(-1, self.total, self.side, self.side)
    return self.head(self.conv(x) * scale + torch.rand(1, self.total, self.side, 1))


def repeated(self: Any, x: Tensor) -> Tensor:
    return self.head(self.conv(x) + x[:, :1].repeat(1, self.total, 1, self.one))


def grouped_by_hand(self: Any, x: Tensor) -> Tensor:
    return self.head(F.conv2d(self.conv(x), self.kernel, padding=1, groups=self.total))


CALLS: dict[str, tuple[Callable[..., Tensor], dict[str, Any], set[str]]] = {
    "narrow": (narrowed, {"cut": 6, "rest": 8, "head": conv(8, 2)}, {"cut", "rest"}),
    "from the end": (
        sliced_from_the_end,
        {"cut": 6, "rest": 8, "head": conv(8, 2), "other": conv(6, 2)},
        {"cut", "rest"},
    ),
    "in the middle": (
        sliced_in_the_middle,
        {"cut": 4, "rest": 6, "side": 6, "head": conv(6, 2), "other": conv(8, 2)},
        {"cut", "rest"},
    ),
    "positions": (cut_at_positions, {"cut": 6, "head": conv(8, 2), "other": conv(6, 2)}, {"cut"}),
    "difference": (
        split_by_difference,
        {"cut": 6, "total": 14, "head": conv(8, 2), "other": conv(6, 2)},
        {"cut", "total"},
    ),
    "unflatten": (unflattened, {"groups": 2, "rest": 7, "head": conv(7, 2)}, {"rest"}),
    "zeros": (state, {"total": 14, "side": 14, "head": conv(14, 2)}, {"total"}),
    "expand": (expanded, {"total": 14, "side": 14, "scale": SCALE, "head": conv(14, 2)}, {"total"}),
    "repeat": (repeated, {"total": 14, "one": 1, "head": conv(14, 2)}, {"total"}),
    "groups": (
        grouped_by_hand,
        {"total": 14, "kernel": nn.Parameter(torch.randn(14, 1, 3, 3)), "head": conv(14, 2)},
        {"total"},
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_each_way_to_pass_a_size_is_seen(name: str) -> None:
    function, parts, attributes = CALLS[name]
    model = forward_of(function, conv=conv(3, 14), **parts)
    network = trace_exactly(model, IMAGES)
    assert network.prunable_share == 1.0
    assert {size.path for size in network.sizes} == attributes
    for seed in range(3):
        assert verify_cut(model, network, random_plan(network, 0.4, seed), IMAGES) <= TOLERANCE
