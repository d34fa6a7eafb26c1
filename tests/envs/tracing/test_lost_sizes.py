"""Sizes that no trace can see: found by trial, declared, or refused with advice."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from secateur.agent.cli import main
from secateur.agent.procedures.config import PruningConfig
from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.verification import TOLERANCE, trace_exactly, verify_cut
from support.command_line import refusal
from support.made import LostSize, forward_of
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


def test_an_attribute_is_declared_in_one_line() -> None:
    model = LostSize()
    assert not trace_exactly(model, IMAGES).layers
    network = trace_exactly(model, IMAGES, size={"words.dim": "conv"})
    assert [size.path for size in network.sizes] == ["words.dim"]
    plan = random_plan(network, 0.4)
    assert plan.attributes == {"words.dim": len(plan.kept["conv"])}
    assert verify_cut(model, network, plan, IMAGES) <= TOLERANCE
    smaller = secateur.cut(model, plan, size={"words.dim": "conv"})
    assert smaller.words["dim"] == smaller.conv.out_channels == len(plan.kept["conv"])


def test_the_command_line_and_the_options_declare_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["inspect", "support.made:LostSize", "--input-shape", "3", "8", "8"]
    assert main([*words, "--size", "words.dim=conv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["attributes"] == ["words.dim"]
    assert "is 'words.dim'; give an attribute and a layer" in refusal([*words, "--size", "words.dim"], capsys)
    assert "did you mean 'words.dim'" in refusal([*words, "--size", "words.dimm=conv"], capsys)
    assert PruningConfig(size={"words.dim": "conv"}).constraints.sizes == {"words.dim": "conv"}
    assert PruningConfig(size="words.dim=conv").constraints.sizes == {"words.dim": "conv"}


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"words.dimm": "conv"}, r"no whole number at 'words\.dimm', did you mean 'words\.dim'\?"),
        ({"words.dim": "conf"}, "layer 'conf', which the network does not have, did you mean 'conv'"),
        (
            {"words.cells": "conv"},
            r"'words\.cells' is 9, which is no multiple of the 16 filters of layer 'conv'",
        ),
    ],
)
def test_a_wrong_declaration_is_refused_with_what_was_meant(sizes: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        trace_exactly(LostSize(), IMAGES, size=sizes)
