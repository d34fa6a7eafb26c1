"""Sizes that no trace can see: found by trial, declared, or refused with advice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.verification import TOLERANCE, trace_exactly, verify_cut
from support.made import forward_of
from support.promises import random_plan

IMAGES = torch.randn(2, 3, 8, 8)


def text(self: Any, x: Tensor) -> Tensor:
    return self.fc(F.adaptive_avg_pool2d(self.conv(x), 3).view(-1, int(str(self.dim)) * 9))


def numpy_number(self: Any, x: Tensor) -> Tensor:
    return self.fc(F.adaptive_avg_pool2d(self.conv(x), 3).view(-1, int(self.config["dim"]) * 9))


def asserted(self: Any, x: Tensor) -> Tensor:
    x = F.adaptive_avg_pool2d(self.conv(x), 3)
    assert x.shape[1] == self.dim, "wrong input"
    return self.fc(x.flatten(1))


LOST: dict[str, tuple[Callable[..., Tensor], dict[str, Any], str]] = {
    "text": (text, {"dim": 16}, "dim"),
    "NumPy": (numpy_number, {"config": {"dim": np.int64(16)}, "other": 16}, "config.dim"),
    "assert": (asserted, {"dim": 16, "other": 16}, "dim"),
}


@pytest.mark.parametrize("name", LOST)
def test_a_size_whose_way_is_lost_is_found_by_changing_it(name: str) -> None:
    function, parts, path = LOST[name]
    model = forward_of(function, conv=nn.Conv2d(3, 16, 3), fc=nn.Linear(16 * 9, 7), **parts)
    network = trace_exactly(model, IMAGES)
    assert network.prunable_share == 1.0
    assert [size.path for size in network.sizes] == [path]
    plan = random_plan(network, 0.4)
    assert set(plan.attributes) == {path}
    smaller = cut(model, network, plan)
    assert verify_cut(model, network, plan, IMAGES) <= TOLERANCE
    if name == "NumPy":
        assert type(smaller.config["dim"]) is np.int64


def literal(self: Any, x: Tensor) -> Tensor:
    return self.fc(F.adaptive_avg_pool2d(self.conv(x), 3).view(-1, 144))


def test_a_number_in_the_code_is_refused_with_its_line_and_advice() -> None:
    model = forward_of(literal, conv=nn.Conv2d(3, 16, 3), fc=nn.Linear(16 * 9, 7), unread=16)
    network = trace_exactly(model, IMAGES)
    assert not network.layers
    assert not network.sizes
    cause = next(pinned.cause for pinned in network.pinned if pinned.name == "conv")
    assert (
        "in the line `return self.fc(F.adaptive_avg_pool2d(self.conv(x), 3).view(-1, 144))`" in cause.reason
    )
    assert "view(x.size(0), -1) adapts by itself" in cause.reason
    assert cause.source == f"tracing/test_lost_sizes.py:{literal.__code__.co_firstlineno + 1}"


def in_words(self: Any, x: Tensor) -> Tensor:
    """Read two numbers in a way that only works for both."""
    x = F.adaptive_avg_pool2d(self.conv(x), 3)
    return self.fc(x.view(-1, 9 * len("." * self.words["dim"])))


def test_an_attribute_is_declared_in_one_line() -> None:
    model = forward_of(in_words, conv=nn.Conv2d(3, 16, 3), fc=nn.Linear(16 * 9, 7), words={"dim": 16, "d": 9})
    network = trace_exactly(model, IMAGES, sizes={"words.dim": "conv"})
    assert [size.path for size in network.sizes] == ["words.dim"]
    plan = random_plan(network, 0.4)
    assert plan.attributes == {"words.dim": len(plan.kept["conv"])}
    assert verify_cut(model, network, plan, IMAGES) <= TOLERANCE


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"words.dimm": "conv"}, r"no whole number at 'words\.dimm', did you mean 'words\.dim'\?"),
        ({"words.dim": "conf"}, "layer 'conf', which the network does not have, did you mean 'conv'"),
        ({"words.d": "conv"}, r"'words\.d' is 9, which is no multiple of the 16 filters of layer 'conv'"),
    ],
)
def test_a_wrong_declaration_is_refused_with_what_was_meant(sizes: dict[str, str], said: str) -> None:
    model = forward_of(in_words, conv=nn.Conv2d(3, 16, 3), fc=nn.Linear(16 * 9, 7), words={"dim": 16, "d": 9})
    with pytest.raises(ValueError, match=said):
        trace_exactly(model, IMAGES, sizes=sizes)
