"""Whole numbers of a network are found by a path at any depth, and only they can be set."""

from __future__ import annotations

import enum
from collections import namedtuple
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from secateur.envs.modules.numbers import number_at, replace_numbers, set_numbers

Pair = namedtuple("Pair", "one other")


class Colour(enum.Enum):
    RED = 5


class Count(enum.IntEnum):
    MANY = 7


class Net(nn.Module):
    expansion = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.width, self._dim = nn.Conv2d(3, 6, 3, stride=2), 6, 9
        self.config = SimpleNamespace(
            dim=16, pair=Pair(2, (3, 4)), flag=True, colour=Colour.RED, count=Count.MANY
        )
        self.table, self.sizes = {"a": [5, {"b": 8}], "a.b": 3, 1: 7}, torch.Size((6, 2))
        self.array, self.number, self.text = np.arange(4), np.int64(12), "16"
        self.others = [nn.Linear(2, 2), torch.zeros(3), len, Net.size, Net, range(3), None, 0.5]

    def size(self) -> int:
        return 16


def numbers(model: nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def note(path: str, value: Any) -> Any:
        assert path not in found
        found[path] = value
        return value

    replace_numbers(model, note)
    return found


def test_numbers_are_found_in_all_that_holds_them_and_nowhere_else() -> None:
    assert numbers(Net()) == {
        **{"width": 6, "_dim": 9, "expansion": 4, "number": 12, "sizes.0": 6, "sizes.1": 2},
        **{"config.dim": 16, "config.pair.0": 2, "config.pair.1.0": 3, "config.pair.1.1": 4},
        **{"table.a.0": 5, "table.a.1.b": 8, "table.1": 7},
    }


def test_what_several_modules_share_has_one_path() -> None:
    shared = SimpleNamespace(dim=16)
    model = nn.Sequential(nn.Identity(), nn.Identity())
    for module in model:
        module.config = shared
    assert numbers(model) == {"0.config.dim": 16}


def test_an_endless_chain_and_a_long_list_are_left() -> None:
    model, chain = nn.Module(), SimpleNamespace(dim=2)
    for _ in range(2000):
        chain = SimpleNamespace(inner=chain)
    model.chain, model.vocabulary = chain, list(range(100_000))
    assert numbers(model) == {}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("width", 3),
        ("_dim", 1),
        ("expansion", 2),
        ("config.dim", 15),
        ("config.pair.1.0", 2),
        ("config.pair.1", (1, 4)),
        ("table.a.1.b", 7),
        ("table.1", 6),
        ("sizes", (5, 2)),
        ("number", 11),
    ],
)
def test_a_number_is_set_in_place_and_keeps_its_kind(path: str, value: int | tuple[int, ...]) -> None:
    model = Net()
    kind, config, table = type(number_at(model, path)), model.config, model.table
    set_numbers(model, {path: value})
    assert number_at(model, path) == value
    assert type(number_at(model, path)) is kind
    assert model.config is config
    assert model.table is table
    assert Net.expansion == 4
    changed = {name: number for name, number in numbers(model).items() if number != numbers(Net())[name]}
    assert set(changed) <= {path, *(f"{path}.{position}" for position in range(2))}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(("width", value) for value in (7, 0, -1, (6,))),
        *(
            (path, 1)
            for path in ("size", "forward", "text", "config", "config.flag", "config.colour", "array")
        ),
        *((path, 1) for path in ("config.count", "config.colour._value_", "config.colour.value")),
        *((path, 1) for path in ("config.__class__.x", "__dict__.width", "_modules.conv", "training")),
        *((path, 1) for path in ("conv.stride", "conv.stride.0", "conv.in_channels", "conv.weight")),
        *((path, 1) for path in ("others.0.in_features", "others.4.expansion", "others.1.ndim", "array.0")),
        *((path, 1) for path in ("sizes.2", "sizes.-1", "table.a.9", "table.none", "nothing", "", "a..b")),
        *((path, 1) for path in ("config.dim.real", "config.pair.one", "_parameters.x", "conv.training")),
    ],
)
def test_nothing_but_an_existing_number_can_be_set_and_only_to_a_smaller_positive_one(
    path: str, value: int | tuple[int, ...]
) -> None:
    model = Net()
    before = numbers(model)
    with pytest.raises(ValueError, match="the plan sets "):
        set_numbers(model, {path: value})
    assert numbers(model) == before
    assert model.conv.stride == (2, 2)
    assert (Colour.RED.value, Count.MANY.value) == (5, 7)
