"""A network that is cut again and again is the dense network cut once, by the composed plan."""

from __future__ import annotations

import copy
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.surgery.cutting import cut, load_pruned, save_pruned
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import trace_exactly, verify_cut
from secateur.envs.tracing import TracedNetwork, trace

IMAGES = torch.randn(2, 3, 8, 8)


class RandomGroups(nn.Module):
    """A chain of layers that treat channels as groups, of random kinds, widths and numbers of groups."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        width = int(rng.choice([8, 12, 16, 24]))
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.kinds: list[str] = []
        self.parts = nn.ModuleList()
        for _ in range(rng.integers(2, 6)):
            groups = int(rng.choice([g for g in range(2, width + 1) if width % g == 0]))
            new = groups * int(rng.integers(1, 5))
            makers = {
                "grouped": lambda w=width, g=groups: nn.Conv2d(w, w, 3, padding=1, groups=g),
                "functional": lambda w=width, g=groups: nn.Conv2d(w, w, 3, padding=1, groups=g),
                "residual": lambda w=width, g=groups: nn.Conv2d(w, w, 3, padding=1, groups=g),
                "transposed": lambda w=width, g=groups: nn.ConvTranspose2d(w, w, 3, padding=1, groups=g),
                "uneven": lambda w=width, g=groups, n=new: nn.Conv2d(w, n, 3, padding=1, groups=g),
                "depthwise": lambda w=width: nn.Conv2d(w, w, 3, padding=1, groups=w),
                "multiplied": lambda w=width: nn.Conv2d(w, 2 * w, 3, padding=1, groups=w),
                "norm": lambda w=width, g=groups: nn.GroupNorm(g, w),
                "bare norm": lambda w=width, g=groups: nn.GroupNorm(g, w, affine=False),
                "channel shuffle": lambda g=groups: nn.ChannelShuffle(g),
                "shuffle": lambda g=groups: Shuffle(g),
                "dense": lambda w=width: nn.Conv2d(w, 12, 3, padding=1),
            }
            kind = str(rng.choice(list(makers)))
            width = {"uneven": new, "multiplied": 2 * width, "dense": 12}.get(kind, width)
            self.kinds.append(kind)
            self.parts.append(makers[kind]())
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for kind, part in zip(self.kinds, self.parts, strict=True):
            if kind == "functional":
                x = F.relu(F.conv2d(x, part.weight, part.bias, padding=1, groups=part.groups))
            elif kind in ("residual", "norm", "bare norm"):
                x = x + F.relu(part(x))
            else:
                x = F.relu(part(x))
        return self.head(x.mean((2, 3)))


class Shuffle(nn.Module):
    """Mix the channels of groups, with the size of a group computed from the input."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, *pixels = x.shape
        x = x.view(batch, self.groups, channels // self.groups, *pixels)
        return x.transpose(1, 2).reshape(batch, channels, *pixels)


class Branches(nn.Module):
    """Sections of different sizes that a cut can make equal."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = [6, 9]
        self.stem, self.one, self.two = nn.Conv2d(3, 15, 3), nn.Conv2d(6, 4, 3), nn.Conv2d(9, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        one, two = F.relu(self.stem(x)).split(self.sizes, 1)
        return self.one(one) + self.two(two)


class Grouped(nn.Sequential):
    """A convolution of four groups."""

    def __init__(self, width: int, inner: int | None = None) -> None:
        inner = inner or width
        grouped = nn.Conv2d(width, inner, 3, groups=4)
        super().__init__(nn.Conv2d(3, width, 3), nn.ReLU(), grouped, nn.ReLU(), nn.Conv2d(inner, 5, 1))


def random_plan(network: TracedNetwork, rng: np.random.Generator) -> PruningPlan:
    masks = []
    for layer in network.layers:
        mask = rng.random(layer.filters) < rng.choice([0.4, 0.7, 0.9])
        mask[rng.integers(layer.filters)] = True
        masks.append(mask)
    return PruningPlan.from_masks(network, masks)


def keeping(network: TracedNetwork, **kept: tuple[int, ...]) -> PruningPlan:
    """Keep some filters of some layers, and all of the others."""
    names = {layer.name: tuple(range(layer.filters)) for layer in network.layers}
    by_name = names | {name.lstrip("_"): indices for name, indices in kept.items()}
    masks = [np.isin(np.arange(layer.filters), by_name[layer.name]) for layer in network.layers]
    return PruningPlan.from_masks(network, masks)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    assert state(one).keys() == state(other).keys()
    assert all(torch.equal(tensor, state(other)[name]) for name, tensor in state(one).items())
    with torch.no_grad():
        assert torch.equal(one.eval()(IMAGES), other.eval()(IMAGES))


def pickled(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)  # type: ignore[no-any-return]


@pytest.mark.parametrize("seed", range(24))
def test_three_cuts_are_one_cut_by_the_composed_plan(seed: int, tmp_path: Path) -> None:
    dense, rng = RandomGroups(seed), np.random.default_rng(seed)
    first = trace_exactly(dense, IMAGES)
    model, network, plan = dense, first, None
    for keep in (copy.deepcopy, pickled, lambda cut_model: cut_model):
        later = random_plan(network, rng)
        verify_cut(model, network, later, IMAGES)
        model = keep(cut(model, network, later))
        plan = later if plan is None else plan.then(PruningPlan.from_json(later.to_json()))
        save_pruned(model, plan, tmp_path)
        assert_equal(load_pruned(lambda: RandomGroups(seed), tmp_path), model)
        network = trace_exactly(model, IMAGES)
    assert_equal(cut(dense, first, plan), model)


@pytest.mark.parametrize("width", [16, 32])
def test_a_loaded_network_is_cut_in_the_units_of_the_dense_one(width: int, tmp_path: Path) -> None:
    dense = Grouped(width)
    network = trace(dense, IMAGES)
    plan = keeping(network, _0=(1, 2))
    save_pruned(cut(dense, network, plan), plan, tmp_path)
    old = json.loads((tmp_path / "plan.json").read_text())
    del old["units"]  # as in files of earlier versions
    (tmp_path / "plan.json").write_text(json.dumps(old))
    loaded = load_pruned(lambda: Grouped(width), tmp_path)
    again = trace(loaded, IMAGES)
    both = plan.then(keeping(again, _0=(1,)))
    assert [layer.filters for layer in again.layers if layer.name == "0"] == [2]
    assert_equal(cut(dense, network, both), cut(loaded, again, keeping(again, _0=(1,))))


def test_the_one_group_that_is_left_stays_whole() -> None:
    dense = Grouped(16)
    network = trace(dense, IMAGES)
    smaller = cut(dense, network, keeping(network, _0=(2,)))
    assert (smaller[2].groups, smaller[2].in_channels) == (1, 4)
    assert trace(smaller, IMAGES).layers == ()


def test_sections_that_a_cut_made_equal_are_not_coupled() -> None:
    dense = Branches()
    network = trace(dense, IMAGES)
    assert [(layer.name, layer.filters) for layer in network.layers] == [("stem", 6), ("stem#2", 9)]
    plan = keeping(network, stem=(0, 1, 2, 4), **{"stem#2": (0, 3, 6, 8)})
    smaller = cut(dense, network, plan)
    again = trace(smaller, IMAGES)
    assert [(layer.name, layer.filters) for layer in again.layers] == [("stem", 4), ("stem#2", 4)]


def test_a_plan_for_a_network_that_forgot_its_groups_is_refused() -> None:
    dense = Grouped(32)
    network = trace(dense, IMAGES)
    plan = keeping(network, _0=(1, 3, 4, 6))
    by_hand = Grouped(16, 32)  # of the sizes of the cut network, but whole groups are removed from it
    by_hand.load_state_dict(cut(dense, network, plan).state_dict())
    later = keeping(trace(by_hand, IMAGES), _0=(0, 2))
    with pytest.raises(ValueError, match=r"counts the filters of layer '0' in another way than the first"):
        plan.then(later)
    without_fingerprints = replace(later, before={})
    assert plan.then(without_fingerprints).kept["0"] == (1, 4)


def test_a_plan_for_filters_at_other_channels_does_not_fit() -> None:
    wide = trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 5, 1)), IMAGES)
    many = trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 5, 1)), IMAGES)
    plan = keeping(wide, _0=(0, 1))
    assert {name: count for name, count in plan.filters.items()} == {
        la.name: la.filters for la in many.layers
    }
    with pytest.raises(ValueError, match=r"does not fit the network: the filters of layer '0' are at other"):
        plan.masks(many)


@pytest.mark.parametrize("units", [[], {"0": "whole groups"}, {"0": {"weight": 1}}])
def test_units_that_are_no_texts_are_refused(units: object) -> None:
    text = json.dumps({"format": "secateur-plan-1", "layers": {}, "units": units})
    with pytest.raises(ValueError, match="the units of the plan"):
        PruningPlan.from_json(text)
