"""Plans, cuts, files: what is refused, what is kept, and what is rebuilt."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from secateur.envs.io.atomic_write import write_atomically
from secateur.envs.modules.calls import as_calls
from secateur.envs.surgery.cutting import cut, load_pruned, mask_, save_pruned
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.probe import Probe
from secateur.envs.surgery.verification import InexactCutError, trace_exactly, verify_cut
from secateur.envs.tracing import Layer, Slice, TracedNetwork, trace
from support.networks import OWN, MaskedWeights, SizesByAttribute, UNet
from support.promises import difference, outputs, random_plan, randomised

IMAGES = torch.randn(2, 3, 8, 8)


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.Conv2d(5, 2, 1)
    )


@pytest.fixture
def network() -> TracedNetwork:
    return trace(small(), IMAGES)


def plan_of(**kept: tuple[int, ...]) -> PruningPlan:
    return PruningPlan(kept, dict.fromkeys(kept, 6))


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ((), "empties layer 'conv'; at least one filter has to stay"),
        ((0, 0, 1), "must be sorted and without repetition"),
        ((2, 1), "must be sorted and without repetition"),
        ((0, 6), "keeps filter 6 of layer 'conv', which has filters 0 to 5"),
        ((-1, 3), "keeps filter -1 of layer 'conv'"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(kept: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_of(conv=kept)


def test_kept_and_filters_must_name_the_same_layers() -> None:
    with pytest.raises(ValueError, match="filters has 'b', and kept has not: give both the same layers"):
        PruningPlan({"a": (0,)}, {"a": 1, "b": 1})
    with pytest.raises(ValueError, match=r"kept has 'a', 'b', 'c', \.\.\., and filters has not"):
        PruningPlan(dict.fromkeys("abcd", (0,)), {})


def test_a_plan_does_not_fit_another_network(network: TracedNetwork) -> None:
    other = trace(nn.Sequential(nn.Conv2d(3, 7, 3), nn.Conv2d(7, 2, 1)), IMAGES)
    with pytest.raises(ValueError, match="does not fit the network: they differ at layer '0'"):
        PruningPlan.dense(other).masks(network)


def test_masks_must_fit_the_layers(network: TracedNetwork) -> None:
    with pytest.raises(ValueError, match="got 1 masks for 2 layers"):
        PruningPlan.from_masks(network, [np.ones(6, np.bool_)])
    with pytest.raises(ValueError, match=r"mask of '0' has shape \(5,\), not \(6,\)"):
        PruningPlan.from_masks(network, [np.ones(5, np.bool_)] * 2)


def test_a_plan_is_made_of_masks_and_gives_them_back(network: TracedNetwork) -> None:
    masks = [np.array([1, 0, 1, 0, 1, 1], np.bool_), np.array([0, 0, 1, 0, 0], np.bool_)]
    plan = PruningPlan.from_masks(network, masks)
    assert all(np.array_equal(a, b) for a, b in zip(masks, plan.masks(network), strict=True))
    assert plan.counts(network).tolist() == [4, 1]


def test_masking_zeroes_filters_and_what_reads_them(network: TracedNetwork) -> None:
    model = small()
    mask_(model, network, PruningPlan({"0": (0, 2, 3, 4, 5), "3": (0, 1, 2, 3, 4)}, {"0": 6, "3": 5}))
    for tensor in (
        model[0].weight[1],
        model[0].bias[1],
        model[1].weight[1],
        model[1].bias[1],
        model[3].weight[:, 1],
    ):
        assert not tensor.any()
    assert model[0].weight[0].any()


def test_cutting_leaves_the_dense_network_as_it_is(network: TracedNetwork) -> None:
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    smaller = cut(model, network, random_plan(network, 0.5))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert (model[0].out_channels, smaller[0].out_channels, smaller[3].in_channels) == (6, 3, 3)
    assert smaller[1].num_features == len(smaller[1].running_mean) == 3


def test_parameters_that_need_no_gradient_need_none_after_the_cut(network: TracedNetwork) -> None:
    model = small()
    model[0].weight.requires_grad_(False)
    smaller = cut(model, network, random_plan(network, 0.5))
    assert [p.requires_grad for p in smaller.parameters()] == [p.requires_grad for p in model.parameters()]


@pytest.mark.parametrize("architecture", OWN, ids=lambda a: a.name)
def test_two_cuts_equal_one(architecture: object) -> None:
    model = randomised(architecture.model()).eval()  # type: ignore[attr-defined]
    inputs = tuple(x.double() for x in architecture.example())  # type: ignore[attr-defined]
    network = trace_exactly(model, inputs)
    first = random_plan(network, 0.3, seed=1)
    smaller = cut(model, network, first)
    again = trace_exactly(smaller, inputs)
    second = random_plan(again, 0.3, seed=2)
    smallest = cut(smaller, again, second)
    at_once = cut(model, network, first.then(second))
    assert difference(outputs(smallest, inputs), outputs(at_once, inputs)) == 0.0


def test_what_is_left_of_a_layer_keeps_its_name_when_its_other_part_cannot_go_any_more() -> None:
    model = SizesByAttribute()
    network = trace(model, IMAGES)
    kept = {layer.name: tuple(range(layer.filters)) for layer in network.layers}
    widths = {layer.name: layer.filters for layer in network.layers}
    assert (widths["stem"], widths["stem#2"]) == (6, 8)
    smaller = cut(model, network, PruningPlan({**kept, "stem": (0,)}, widths))
    again = {layer.name: layer.filters for layer in trace(smaller, IMAGES).layers}
    assert again == {name: filters for name, filters in widths.items() if name != "stem"}


def test_a_second_plan_must_fit_what_the_first_leaves(network: TracedNetwork) -> None:
    with pytest.raises(ValueError, match="second plan is for 6 filters of layer '0', the first leaves 3"):
        random_plan(network, 0.5).then(random_plan(network, 0.5))


def test_masks_of_torch_are_carried_over() -> None:
    model = MaskedWeights()
    network = trace_exactly(model, IMAGES)
    plan = random_plan(network, 0.5)
    smaller = cut(model, network, plan)
    kept = torch.tensor(plan.kept["conv1"])
    assert torch.equal(smaller.conv1.weight_mask, model.conv1.weight_mask[kept])
    assert torch.equal(smaller.conv1.weight, model.conv1.weight[kept])


def test_masks_of_torch_stay_in_force_while_a_cut_network_trains_on() -> None:
    torch.manual_seed(0)
    model = MaskedWeights()
    network = trace_exactly(model, IMAGES)
    smaller = cut(model, network, random_plan(network, 0.5)).train()
    optimiser = torch.optim.SGD(smaller.parameters(), lr=0.1)
    labels = torch.tensor([0, 1])
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(smaller(IMAGES), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    smaller(IMAGES)
    for module in (smaller.conv1, smaller.conv2, smaller.head):
        assert not module.weight[module.weight_mask == 0].any()
        assert module.weight.any()


class TestFiles:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        model = SizesByAttribute()
        network = trace_exactly(model, IMAGES)
        plan = random_plan(network, 0.5)
        save_pruned(cut(model, network, plan), plan, tmp_path)
        return tmp_path

    def test_a_pruned_network_is_two_files(self, saved: Path) -> None:
        assert {path.name for path in saved.iterdir()} == {"plan.json", "model.safetensors"}
        assert json.loads((saved / "plan.json").read_text())["layers"]["even"]["filters"] == 6

    def test_what_was_saved_in_another_precision_comes_back_in_it(self, tmp_path: Path) -> None:
        model = small().double()
        network = trace(model, IMAGES)
        plan = random_plan(network, 0.5)
        save_pruned(cut(model, network, plan), plan, tmp_path)
        assert {p.dtype for p in load_pruned(small, tmp_path).parameters()} == {torch.float64}

    def test_the_weights_of_another_network_are_refused(self, tmp_path: Path) -> None:
        model = small()
        network = trace(model, IMAGES)
        plan = random_plan(network, 0.5)
        save_pruned(cut(model, network, plan), plan, tmp_path)
        with pytest.raises(ValueError, match=r"is in only one of them"):
            load_pruned(UNet, tmp_path)

        def smaller_than_the_cut() -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 5, 3), nn.Conv2d(5, 2, 1)
            )

        with pytest.raises(ValueError, match=r"'0\.bias' is \(3,\), dense \(2,\)"):
            load_pruned(smaller_than_the_cut, tmp_path)

    def test_writing_that_fails_leaves_the_old_file_and_nothing_else(self, tmp_path: Path) -> None:
        target = tmp_path / "report.json"
        write_atomically(target, lambda path: path.write_text("old"))

        def fails(path: Path) -> None:
            path.write_text("half")
            raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            write_atomically(target, fails)
        assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
        assert target.read_text() == "old"


class TestVerification:
    def test_a_true_trace_passes(self, network: TracedNetwork) -> None:
        assert verify_cut(small(), network, random_plan(network, 0.5), IMAGES) < 1e-9

    @pytest.mark.parametrize("parameter", ["1.weight", "3.weight", "1.running_mean"])
    def test_a_slice_that_is_shifted_is_caught(self, network: TracedNetwork, parameter: str) -> None:
        first, *rest = network.layers
        slices = tuple(
            dataclasses.replace(s, index=np.roll(s.index, 1, axis=0))
            if s.parameter == parameter and s.role != "producer"
            else s
            for s in first.slices
        )
        wrong = dataclasses.replace(network, layers=(dataclasses.replace(first, slices=slices), *rest))
        with pytest.raises(InexactCutError, match="differs from the masked one by"):
            verify_cut(small(), wrong, random_plan(wrong, 0.5), IMAGES)

    def test_a_slice_that_is_forgotten_is_caught(self, network: TracedNetwork) -> None:
        first, *rest = network.layers
        slices = tuple(s for s in first.slices if s.role != "input_channel")
        wrong = dataclasses.replace(network, layers=(dataclasses.replace(first, slices=slices), *rest))
        with pytest.raises(InexactCutError, match="does not run"):
            verify_cut(small(), wrong, random_plan(wrong, 0.5), IMAGES)

    def test_a_mask_that_nobody_sees_is_no_check(self) -> None:
        class Deaf(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.unheard, self.conv = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 2, 1)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.conv(x) + 0.0 * self.unheard(x).mean()

        model = Deaf()
        index = np.arange(4)[:, None]
        slices = (
            Slice("unheard.weight", 0, index, "producer"),
            Slice("unheard.bias", 0, index, "per_channel"),
        )
        layers = (Layer("unheard", 4, ("unheard",), slices, np.arange(1, 5)),)
        blind = dataclasses.replace(trace(model, IMAGES), layers=layers)
        plan = PruningPlan({"unheard": (0,)}, {"unheard": 4})
        with pytest.raises(InexactCutError, match="the check of the cut is blind"):
            Probe(model, as_calls(IMAGES)).check(dataclasses.replace(blind, sizes=()), plan)

    def test_an_example_of_zeros_does_not_blind_it(self) -> None:
        model = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(), nn.Conv2d(6, 2, 1, bias=False))
        network = trace_exactly(model, torch.zeros_like(IMAGES))
        assert network.prunable_share == 1.0
        verify_cut(model, network, random_plan(network, 0.5), torch.zeros_like(IMAGES))

    def test_zero_weights_do_not_blind_it(self, network: TracedNetwork) -> None:
        model = small()
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.zero_()
        assert verify_cut(model, network, random_plan(network, 0.5), IMAGES) < 1e-9
