"""Layers of low rank: exact at full rank, and as wrong as the singular values that go."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from secateur.envs.modules.calls import as_calls
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.cutting import cut, load_pruned, save_pruned
from secateur.envs.surgery.low_rank import Spectrum, full_rank, low_rank
from secateur.envs.surgery.low_rank_choice import choose_ranks
from secateur.envs.surgery.low_rank_layers import find_rank_layers
from secateur.envs.surgery.output_moments import output_moments
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import InexactCutError, verify_cut
from support.promises import Examples, difference, macs_of, outputs, random_plan, randomised
from support.small import plain_network

CONVOLUTIONS = [
    (nn.Conv1d(4, 6, 3, padding=1), (4, 9)),
    (nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), (3, 9, 8)),
    (nn.Conv2d(3, 40, (3, 1), padding="same", dilation=(2, 1)), (3, 9, 8)),
    (nn.Conv2d(3, 8, 3, padding=2, padding_mode="reflect"), (3, 9, 8)),
    (nn.Conv2d(3, 8, 3, padding="valid", padding_mode="circular"), (3, 9, 8)),
    (nn.Conv2d(5, 4, 1), (5, 3, 3)),
    (nn.Conv3d(2, 5, (1, 3, 3), padding=(0, 1, 1), padding_mode="replicate"), (2, 3, 6, 6)),
    (nn.Linear(7, 5), (7,)),
    (nn.Linear(3, 9, bias=False), (4, 3)),
]


def moments_of(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    axis = -1 if isinstance(layer, nn.Linear) else 1
    with torch.no_grad():
        rows = layer(x).movedim(axis, 0).flatten(1)
    return rows.mean(1), torch.cov(rows, correction=0)


@pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("data_aware", [False, True])
def test_at_full_rank_two_layers_compute_what_one_does(
    layer: nn.Module, shape: tuple[int, ...], data_aware: bool
) -> None:
    model, x = nn.Sequential(layer, nn.Tanh()).double(), torch.randn(3, *shape, dtype=torch.float64)
    spectra = {"0": Spectrum.of(layer, moments_of(layer, x))} if data_aware else None
    two = low_rank(model, {"0": full_rank(layer)}, spectra)
    assert isinstance(two[0], nn.Sequential)
    assert difference(outputs(model, (x,)), outputs(two, (x,))) <= 1e-9


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 8, 3), nn.Linear(9, 12)])
def test_the_error_of_the_weight_is_the_singular_values_that_go(layer: nn.Module) -> None:
    layer = layer.double()
    weight: Tensor = layer.weight.detach().flatten(1)  # type: ignore[operator,union-attr]
    values = torch.linalg.svdvals(weight)
    errors = []
    for rank in range(1, full_rank(layer) + 1):
        first, second = low_rank(nn.Sequential(layer), {"0": rank})[0]  # type: ignore[misc,index]
        product = second.weight.flatten(1) @ first.weight.flatten(1)
        errors.append(float((weight - product).square().sum()))
        assert errors[-1] == pytest.approx(float(values[rank:].square().sum()), abs=1e-12)
        assert len(first.weight) == rank
    assert errors == sorted(errors, reverse=True)


def test_directions_of_the_outputs_lose_less_of_them_than_those_of_the_weight() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 12, 3, padding=1).double()
    x = torch.randn(8, 6, 6, 6, dtype=torch.float64) * torch.tensor([9.0, 5, 1, 1, 0.1, 0.1])[:, None, None]
    x += 2.0
    spectrum = Spectrum.of(layer, moments_of(layer, x))
    model = nn.Sequential(layer)
    for rank in (1, 3, 6):
        found = [low_rank(model, {"0": rank}, spectra) for spectra in (None, {"0": spectrum})]
        plain, aware = (float((two(x) - model(x)).square().sum()) for two in found)
        assert aware < 0.9 * plain
        assert moments_of(found[1][0][1], found[1][0][0](x))[0] == pytest.approx(  # type: ignore[index]
            moments_of(layer, x)[0], abs=1e-9
        ), "the bias keeps the mean"


@pytest.mark.parametrize("share", [0.8, 0.5, 0.2])
def test_a_budget_is_met_and_nearly_used(problem: PruningProblem, share: float) -> None:
    model, shape = problem.model, problem.task.input_shape
    found = find_rank_layers(model, as_calls(torch.zeros(2, *shape)))
    energies = {layer.name: Spectrum.of(model.get_submodule(layer.name)).energies for layer in found.layers}
    macs = macs_of(model, torch.zeros(1, *shape))
    ranks = choose_ranks(found.layers, energies, macs, share * macs)
    assert 0.97 * share * macs < macs_of(low_rank(model, ranks), torch.zeros(1, *shape)) <= share * macs


def test_what_is_too_small_is_refused_with_the_smallest_possible_size(problem: PruningProblem) -> None:
    model, shape = problem.model, problem.task.input_shape
    found = find_rank_layers(model, as_calls(torch.zeros(2, *shape)))
    energies = {layer.name: Spectrum.of(model.get_submodule(layer.name)).energies for layer in found.layers}
    macs = macs_of(model, torch.zeros(1, *shape))
    smallest = macs_of(low_rank(model, dict.fromkeys(energies, 1)), torch.zeros(1, *shape)) / macs
    with pytest.raises(ValueError, match=f"the network keeps {smallest:.4f}; ask for at least 0.0"):
        choose_ranks(found.layers, energies, macs, 0.9 * smallest * macs)


class Reads(nn.Module):
    """A network that looks at its second layer in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.second = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)
        self.aside = [self.second]

    def forward(self, x: Tensor) -> Any:
        x = self.first(x)
        match self.how:
            case "weight":
                return self.second(x) * self.second.weight.abs().mean()
            case "size":
                return self.second(x) / getattr(self.second, "out_channels", 1)
            case "list":
                return self.aside[0](x) + self.second(x)
            case "function":
                return nn.functional.conv2d(x, self.second.weight)
        return self.second(x)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("weight", "does not run: .*'Sequential' object has no attribute 'weight'"),
        ("size", "computes something else"),
        ("list", "computes something else"),
        ("function", "no pass runs it as a module"),
    ],
)
def test_a_layer_at_which_forward_code_looks_stays_whole(how: str, reason: str) -> None:
    model, images = Reads(how), torch.zeros(2, 3, 9, 9)
    found = find_rank_layers(model, as_calls(images))
    assert [layer.name for layer in found.layers] == ["first"]
    assert list(found.refused) == ["second"]
    assert re.search(reason, found.refused["second"])


def kinds() -> nn.ModuleDict:
    shared = nn.Conv2d(8, 8, 3)
    tied = nn.Linear(8, 8)
    tied.weight = (other := nn.Linear(8, 8)).weight

    class Own(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2

    masked = nn.Conv2d(8, 8, 3)
    prune.l1_unstructured(masked, "weight", 0.5)
    return nn.ModuleDict(
        {
            "groups": nn.Conv2d(8, 8, 3, groups=2), "transposed": nn.ConvTranspose2d(8, 8, 3),
            "own": Own(8, 8, 3), "plain": nn.Conv2d(8, 8, 3),
            "masked": masked, "normed": parametrizations.weight_norm(nn.Conv2d(8, 8, 3)), "one": shared,
            "two": shared, "tied": tied, "other": other, "small": nn.Conv2d(8, 1, 1),
        }
    )  # fmt: skip


class AllKinds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = kinds()

    def forward(self, x: Tensor) -> Tensor:
        images = [part for name, part in self.parts.items() if name not in ("tied", "other", "small")]
        x = torch.cat([part(x).mean((2, 3)) for part in images] + [self.parts["small"](x).mean((2, 3))], 1)
        return x + self.parts["tied"](x[:, :8]).sum() + self.parts["other"](x[:, :8]).sum()


def test_what_no_two_layers_can_replace_stays_whole_with_a_reason() -> None:
    found = find_rank_layers(AllKinds(), as_calls(torch.zeros(2, 8, 5, 5)))
    assert [layer.name for layer in found.layers] == ["parts.plain"]
    reasons = {name.removeprefix("parts."): reason.split()[-1] for name, reason in found.refused.items()}
    assert reasons == {
        "groups": "groups", "transposed": "kind", "own": "own", "masked": "tensors", "normed": "tensors",
        "one": "names", "two": "names", "tied": "weight", "other": "weight", "small": "nothing",
    }  # fmt: skip


def test_a_network_of_low_rank_is_rebuilt_from_its_plan(problem: PruningProblem, tmp_path: Path) -> None:
    torch.manual_seed(3)
    plan = random_plan(problem.network, 0.4).with_ranks({"block1.conv2.0": 5, "hidden": 3})
    smaller = cut(problem.model, problem.network, plan)
    assert smaller.block1.conv2[0][0].out_channels == 5  # type: ignore[union-attr,index]
    save_pruned(smaller, plan, tmp_path)
    again = load_pruned(lambda: type(problem.model)(), tmp_path)
    x = torch.randn(4, *problem.task.input_shape)
    assert difference(outputs(smaller, (x,)), outputs(again, (x,))) == 0.0
    assert PruningPlan.from_json(plan.to_json()) == plan
    assert {"block1.conv2.0.0.weight", "block1.conv2.0.1.weight"} <= set(again.state_dict())
    (tmp_path / "plan.json").write_text(plan.with_ranks({**plan.ranks, "hidden": 4}).to_json())
    with pytest.raises(ValueError, match="gives 'hidden' the rank 4, its weights are"):
        load_pruned(lambda: type(problem.model)(), tmp_path)


def test_after_a_cut_the_rank_is_that_of_the_cut_layer(problem: PruningProblem) -> None:
    model, x = randomised(type(problem.model)()), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    plan = random_plan(problem.network, 0.4)
    smaller = cut(model, problem.network, plan)
    ranks = {name: full_rank(smaller.get_submodule(name)) for name in ("block2.conv1.0", "hidden")}
    two = cut(model, problem.network, plan.with_ranks(ranks))
    assert difference(outputs(smaller, (x,)), outputs(two, (x,))) <= 1e-9
    verify_cut(problem.model, problem.network, plan.with_ranks(ranks), torch.zeros(2, 1, 8, 8))
    over = plan.with_ranks({"hidden": ranks["hidden"] + 1})
    with pytest.raises(ValueError, match=f"the rank of 'hidden' is .*; allowed is 1 to {ranks['hidden']}"):
        cut(model, problem.network, over)
    with pytest.raises(ValueError, match=r"'depthwise\.0' a rank, which is no convolution without groups"):
        cut(model, problem.network, plan.with_ranks({"depthwise.0": 2}))


def test_a_plan_with_ranks_is_checked_where_forward_code_looks_at_a_layer() -> None:
    from secateur.envs.surgery.verification import trace_exactly

    model, images = Reads("list"), torch.zeros(2, 3, 9, 9)
    network = trace_exactly(model, images)
    with pytest.raises(InexactCutError, match="layers of the plan have to stay whole"):
        verify_cut(model, network, PruningPlan.dense(network).with_ranks({"second": 2}), images)


def test_plans_compose_up_to_the_ranks(problem: PruningProblem) -> None:
    plan = random_plan(problem.network, 0.4)
    ranks = PruningPlan({}, {}, ranks={"hidden": 3})
    assert plan.then(ranks) == plan.with_ranks({"hidden": 3})
    assert plan.then(ranks).then(PruningPlan({}, {}, ranks={"down.0": 2})).ranks == {"hidden": 3, "down.0": 2}
    with pytest.raises(ValueError, match="choose ranks last"):
        plan.then(ranks).then(plan)


def test_moments_are_those_of_all_outputs() -> None:
    model, inputs = plain_network(), torch.rand(300, 1, 8, 8)
    found = output_moments(model, ["3", "8"], Examples(inputs), images=300)  # type: ignore[arg-type]
    with torch.no_grad():
        expected = moments_of(model[3], model[:3](inputs))
    torch.testing.assert_close(found["3"][0], expected[0].double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["3"][1], expected[1].double(), rtol=1e-5, atol=1e-6)
    assert found["8"][1].shape == (10, 10)
