"""Attributes that forward code reads as numbers of channels follow a cut; all others are left alone."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.surgery.cutting import cut, load_pruned, save_pruned
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import TOLERANCE, trace_exactly, verify_cut
from secateur.envs.tracing import TracedNetwork
from support.made import conv, forward_of
from support.promises import difference, outputs, random_plan

IMAGES = torch.randn(2, 3, 8, 8)


@dataclass(frozen=True)
class Frozen:
    dim: int


@dataclass(slots=True)
class Slotted:
    dim: int


class ByClass:
    dim = 16


class Both(dict):  # type: ignore[type-arg]
    """Items are attributes too, as in the configurations of many libraries."""

    def __init__(self, **items: int) -> None:
        super().__init__(items)
        self.__dict__.update(items)


Pair = namedtuple("Pair", "cells dim")


def looped() -> SimpleNamespace:
    config = SimpleNamespace(dim=16)
    config.me = config
    return config


HOLDERS: dict[str, tuple[Callable[[], Any], Callable[[Any], int], str]] = {
    "attribute": (lambda: 16, lambda held: held, "held"),
    "namespace": (lambda: SimpleNamespace(dim=16), lambda held: held.dim, "held.dim"),
    "dict": (lambda: {"dim": 16, 3: 9}, lambda held: held["dim"], "held.dim"),
    "ordered dict": (lambda: OrderedDict(dim=16), lambda held: held["dim"], "held.dim"),
    "key that is a number": (lambda: {3: 16}, lambda held: held[3], "held.3"),
    "frozen dataclass": (lambda: Frozen(16), lambda held: held.dim, "held.dim"),
    "slots": (lambda: Slotted(16), lambda held: held.dim, "held.dim"),
    "class": (ByClass, lambda held: held.dim, "held.dim"),
    "items and attributes": (lambda: Both(dim=16), lambda held: held.dim, "held.dim"),
    "items and attributes, by item": (lambda: Both(dim=16), lambda held: held["dim"], "held.dim"),
    "list": (lambda: [9, 16], lambda held: held[1], "held"),
    "tuple": (lambda: (9, 16), lambda held: held[1], "held"),
    "size": (lambda: torch.Size((9, 16)), lambda held: held[1], "held"),
    "named tuple": (lambda: Pair(9, 16), lambda held: held.dim, "held"),
    "mixed list": (lambda: ["x", None, 16, 0.5], lambda held: held[2], "held.2"),
    "list of lists": (lambda: [[3, 9], [4, 16]], lambda held: held[1][1], "held.1"),
    "deep": (
        lambda: {"a": [SimpleNamespace(b=(1, {"c": 16}))]},
        lambda held: held["a"][0].b[1]["c"],
        "held.a.0.b.1.c",
    ),
    "cycle": (looped, lambda held: held.me.me.dim, "held.dim"),
    "half": (lambda: SimpleNamespace(half=8), lambda held: 2 * held.half, "held.half"),
    "double": (lambda: SimpleNamespace(double=32), lambda held: held.double // 2, "held.double"),
    "sum": (lambda: SimpleNamespace(dim=15), lambda held: held.dim + 1, "held.dim"),
    "difference": (lambda: SimpleNamespace(all=25, cells=9), lambda held: held.all - held.cells, "held.all"),
    "product": (lambda: SimpleNamespace(b=4, a=4), lambda held: held.a * held.b, "held.a"),
}


class Net(nn.Module):
    """A convolution, and a linear layer whose view computes its size from what the network holds."""

    def __init__(self, held: Any, read: Callable[[Any], int]) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 16, 3), nn.Linear(16 * 9, 7)
        self.held, self._read = held, read

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(F.relu(self.conv(x)), 3)
        return self.fc(x.view(-1, self._read(self.held) * 9))


def check_cut(build: Callable[[], nn.Module], network: TracedNetwork, inputs: Tensor, folder: Path) -> None:
    """Check a cut against the masked network, after loading, and after a second cut."""
    model = build()
    plan = random_plan(network, 0.4)
    before = copy.deepcopy(vars(model))
    assert verify_cut(model, network, plan, inputs) <= TOLERANCE
    smaller = cut(model, network, plan).eval()
    assert str(vars(model)["_modules"]) == str(before["_modules"])
    save_pruned(smaller, plan, folder)
    assert difference(outputs(load_pruned(build, folder), (inputs,)), outputs(smaller, (inputs,))) < 1e-5
    again = trace_exactly(smaller, inputs)
    later = random_plan(again, 0.3, seed=1)
    both = plan.then(later)
    twice, once = cut(smaller, again, later).eval(), cut(model, network, both).eval()
    assert difference(outputs(twice, (inputs,)), outputs(once, (inputs,))) < 1e-5
    folder = folder / "both"
    folder.mkdir()
    save_pruned(once, both, folder)
    assert difference(outputs(load_pruned(build, folder), (inputs,)), outputs(twice, (inputs,))) < 1e-5


@pytest.mark.parametrize("name", HOLDERS)
def test_a_size_that_hides_anywhere_follows_the_cut(name: str, tmp_path: Path) -> None:
    make, read, path = HOLDERS[name]

    def build() -> Net:
        torch.manual_seed(0)
        return Net(make(), read)

    network = trace_exactly(build(), IMAGES)
    assert [(layer.name, layer.filters) for layer in network.layers] == [("conv", 16)]
    assert [size.path for size in network.sizes] == [path]
    assert f"attributes that a cut rewrites: {path}" in str(network)
    check_cut(build, network, IMAGES, tmp_path)


def test_the_class_and_the_network_itself_keep_their_numbers() -> None:
    for make, read in ((ByClass, lambda held: held.dim), (lambda: [9, 16], lambda held: held[1])):
        model = Net(make(), read)
        network = trace_exactly(model, IMAGES)
        smaller = cut(model, network, random_plan(network, 0.5))
        assert read(smaller.held) < 16
        assert read(model.held) == 16
        assert type(read(model.held)) is int
    assert ByClass.dim == 16


class Coincidences(nn.Module):
    """Half of a width is read from an attribute; many others have the same value for other reasons."""

    def __init__(self, num_classes: int = 16) -> None:
        super().__init__()
        self.num_classes, self.image_size, self._heads, self.half = num_classes, 16, 16, 16
        self.temperature, self.sides, self.config = 16, [16, 16], SimpleNamespace(width=16, epochs=16)
        self.grid = [torch.zeros(2, 3), torch.empty(0), None, "16", np.zeros(4), [[10, 13], [16, 30]]]
        self.names = {number: str(number) for number in range(100_000)}
        self.rest = (1, torch.zeros(3), {"x": torch.zeros(16)}, range(16), nn.ReLU(), torch.float32)
        self.conv, self.left, self.right = nn.Conv2d(3, 32, 3), nn.Conv2d(16, 12, 1), nn.Conv2d(16, 12, 1)
        self.fc = nn.Linear(12, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, size=self.sides)
        left, right = torch.split(F.relu(self.conv(x)), self.half, 1)
        x = (self.left(left) + self.right(right)) / self.temperature
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1)).view(-1, self.num_classes)

    def loss(self, out: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(out, F.one_hot(target, self.num_classes).to(out.dtype))


def test_an_attribute_that_equals_a_width_by_chance_is_left_alone() -> None:
    model = Coincidences()
    network = trace_exactly(model, IMAGES)
    assert network.prunable_share == 1.0
    assert [size.path for size in network.sizes] == ["half"]
    plan = random_plan(network, 0.4)
    smaller = cut(model, network, plan)
    assert set(plan.attributes) == {"half"}
    kept = (smaller.num_classes, smaller.image_size, smaller._heads, smaller.temperature, smaller.sides)
    assert kept == (16, 16, 16, 16, [16, 16])
    assert smaller.config == SimpleNamespace(width=16, epochs=16)
    assert smaller.loss(smaller(IMAGES), torch.tensor([1, 15])).isfinite()


def shared_by_two(self: Any, x: Tensor) -> Tensor:
    x = F.relu(self.one(x)).view(-1, self.config.dim, 8, 8)
    return self.head(F.relu(self.two(x)).view(-1, self.config.dim, 8, 8))


def test_layers_that_one_attribute_counts_are_cut_alike() -> None:
    config = SimpleNamespace(dim=12)
    model = forward_of(shared_by_two, one=conv(3, 12), two=conv(12, 12), head=conv(12, 2), config=config)
    network = trace_exactly(model, IMAGES)
    assert [layer.producers for layer in network.layers] == [("one", "two")]
    assert network.prunable_share == 1.0
    plan = random_plan(network, 0.4)
    assert verify_cut(model, network, plan, IMAGES) <= TOLERANCE
    assert cut(model, network, plan).config.dim == len(plan.kept["one"])
    assert config.dim == 12


def shared_with_pixels(self: Any, x: Tensor) -> Tensor:
    x = self.one(x).view(-1, self.size, 8, self.size)
    return self.head(self.two(x))


def test_what_an_attribute_counts_beside_something_fixed_stays_and_the_attribute_is_named() -> None:
    model = forward_of(shared_with_pixels, one=conv(3, 8), two=conv(8, 6), head=conv(6, 2), size=8)
    network = trace_exactly(model, IMAGES)
    assert [layer.name for layer in network.layers] == ["two"]
    assert not network.sizes
    cause = next(pinned.cause for pinned in network.pinned if pinned.name == "one")
    assert "the attribute 'size' counts them and others" in cause.reason
    assert cause.source.startswith("tracing/test_size_attributes.py:")


def test_only_counts_for_which_a_derived_attribute_is_whole_are_allowed() -> None:
    make, read, _ = HOLDERS["half"]
    model = Net(make(), read)
    network = trace_exactly(model, IMAGES)
    (layer,) = network.layers
    assert layer.allowed.tolist() == list(range(2, 17, 2))
    with pytest.raises(ValueError, match=r"the attribute 'held\.half'.*would be 0 or not whole"):
        PruningPlan.from_masks(network, [np.arange(16) < 7])
    assert PruningPlan.from_masks(network, [np.arange(16) < 6]).attributes == {"held.half": 3}


class Singleton:
    """An object that copies share, as they do a logger or a registry."""

    def __init__(self) -> None:
        self.dim = 16

    def __deepcopy__(self, memo: object) -> Singleton:
        return self


def test_an_object_that_a_copy_shares_is_never_changed() -> None:
    shared = Singleton()
    model = forward_of(
        lambda self, x: self.fc(F.adaptive_avg_pool2d(self.conv(x), 3).view(-1, self.shared.dim * 9)),
        conv=nn.Conv2d(3, 16, 3),
        fc=nn.Linear(16 * 9, 7),
        shared=shared,
    )
    network = trace_exactly(model, IMAGES)
    assert not network.layers
    assert type(shared.dim) is int
    assert shared.dim == 16


@pytest.fixture
def described(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    from secateur.agent.cli import main

    def run(*words: str) -> str:
        assert main(["inspect", *words]) == 0
        return capsys.readouterr().out

    return run


def test_inspect_lists_the_attributes_that_a_cut_rewrites(described: Callable[..., str]) -> None:
    words = ("support.networks:SizesByAttribute", "--input-shape", "3", "8", "8")
    assert set(json.loads(described(*words, "--json"))["attributes"]) == {
        "width",
        "parts",
        "grouped",
        "decode.unflattened_size",
    }
    assert "Attributes that a cut rewrites: " in described(*words)
