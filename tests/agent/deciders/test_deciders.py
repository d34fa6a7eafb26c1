"""What deciders promise, learned or not: any target that can be met is met, and no layer is emptied.

Shapes: L layers, N filters of a layer.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secateur.agent.deciders.base import Budget, Decider, keep_top
from secateur.agent.deciders.baselines import Baseline
from secateur.agent.deciders.names import BASELINES
from secateur.agent.learning.budget_matching import decide_layer
from secateur.agent.learning.frozen_agent import FrozenAgent
from secateur.agent.learning.policy import FilterScorer
from secateur.envs.cost.counts import smallest_ratio
from secateur.envs.environment.episode import Episode
from secateur.envs.problem.features import FILTER_FEATURES, LAYER_FEATURES
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.problem.reconstruction import reconstructions
from secateur.envs.surgery.plan import Mask
from secateur.rewards import Size, TargetReward
from support.deciding import counts, ratio, untrained

TARGETS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SIZES: tuple[Size, ...] = ("filters", "params", "macs")


def same(one: list[list[Mask]], other: list[list[Mask]]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)
    )


def assert_meets(
    decider: Decider, problem: PruningProblem, target: float, size: Size, within: float = 0.05
) -> None:
    candidates = decider.decide(problem, target, size)
    assert candidates
    for masks in candidates:
        assert [mask.shape for mask in masks] == [(n,) for n in problem.network.widths]
        assert {mask.dtype for mask in masks} == {np.dtype(np.bool_)}
        assert counts(masks).min() >= 1
        assert target - within < ratio(problem, masks, size) <= target + 1e-9


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_meets_every_target(problem: PruningProblem, name: str, size: Size) -> None:
    decider = Baseline.from_name(name)
    assert decider.name == name
    for target in TARGETS[::2]:
        assert_meets(decider, problem, target, size)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("target", TARGETS)
def test_an_agent_meets_any_target_even_untrained(problem: PruningProblem, target: float, seed: int) -> None:
    assert_meets(untrained(seed, samples=3), problem, target, SIZES[seed])


def test_an_agent_meets_a_target_on_a_network_it_was_not_made_for(plain_problem: PruningProblem) -> None:
    assert_meets(untrained(samples=3), plain_problem, 0.5, "macs", within=0.1)


@pytest.mark.parametrize(
    "decider", [*map(Baseline.from_name, BASELINES[::3]), untrained(samples=1)], ids=lambda d: d.name
)
def test_the_whole_network_is_a_target_too(problem: PruningProblem, decider: Decider) -> None:
    for masks in decider.decide(problem, 1.0, "macs"):
        assert all(mask.all() for mask in masks)


IN_WORDS = {"macs": "MACs", "params": "parameters"}


@pytest.mark.parametrize("decider", [Baseline("l2", "uniform"), Baseline("l2", "global"), untrained()])
@pytest.mark.parametrize("size", SIZES)
def test_a_target_that_cannot_be_reached_is_answered_with_the_smallest_that_can(
    problem: PruningProblem, decider: Decider, size: Size
) -> None:
    smallest = smallest_ratio(problem.network, size)
    what = IN_WORDS.get(size, size)
    message = (
        rf"the target {smallest / 2:g} of the {what} cannot be reached: .* keeps {smallest:.4f}; ask for"
    )
    with pytest.raises(ValueError, match=message) as caught:
        decider.decide(problem, smallest / 2, size)
    offered = float(str(caught.value).split()[-1])
    assert smallest <= offered <= smallest + 0.001
    for masks in decider.decide(problem, offered, size):
        assert ratio(problem, masks, size) <= offered


@pytest.mark.parametrize("target", [0.0, -1.0, 1.5, math.nan])
@pytest.mark.parametrize("decider", [Baseline("l2", "uniform"), untrained()])
def test_a_target_outside_its_range_is_refused(
    problem: PruningProblem, decider: Decider, target: float
) -> None:
    with pytest.raises(ValueError, match="it has to be above 0 and at most 1"):
        decider.decide(problem, target, "macs")


def test_an_unknown_baseline_is_answered_with_the_nearest_or_with_all() -> None:
    with pytest.raises(ValueError, match=r"there is no baseline 'l3-global', did you mean 'l2-global'\?$"):
        Baseline.from_name("l3-global")
    with pytest.raises(ValueError, match=r"there is no baseline 'agent'; give .*l2-global-per-mac"):
        Baseline.from_name("agent")


def test_nothing_can_be_added_to_a_decision_without_leaving_the_target(problem: PruningProblem) -> None:
    budget = Budget(problem.network, 0.4, "macs")
    for decider in (Baseline("l2", "uniform"), Baseline("taylor", "global"), untrained(samples=2)):
        for masks in decider.decide(problem, 0.4, "macs"):
            for layer, mask in enumerate(masks):
                more = counts(masks)
                more[layer] += 1
                assert mask.all() or not budget.allows(more)


def test_uniform_keeps_about_the_same_ratio_of_every_layer(problem: PruningProblem) -> None:
    (masks,) = Baseline("l2", "uniform").decide(problem, 0.5, "macs")
    ratios = counts(masks) / problem.network.widths
    assert ratios.max() - ratios.min() < 0.1


@pytest.mark.parametrize("scope", ["uniform", "global", "global-per-mac"])
@pytest.mark.parametrize("criterion", ["l1", "taylor"])
def test_no_removed_filter_of_a_layer_scores_above_a_kept_one(
    problem: PruningProblem, criterion: str, scope: Any
) -> None:
    (masks,) = Baseline(criterion, scope).decide(problem, 0.5, "macs")
    for mask, score in zip(masks, problem.scores[criterion], strict=True):
        if not mask.all():
            assert score[mask].min() >= score[~mask].max()


def test_global_compares_filters_of_all_layers_but_for_the_last_one_of_each(problem: PruningProblem) -> None:
    (masks,) = Baseline("taylor", "global").decide(problem, 0.5, "filters")
    scores = problem.scores["taylor"]
    removed = np.concatenate([score[~mask] for score, mask in zip(scores, masks, strict=True)])
    for score, mask in zip(scores, masks, strict=True):
        if mask.sum() > 1:
            assert score[mask].min() >= removed.max() - 1e-12


def test_per_mac_spares_cheap_filters(problem: PruningProblem) -> None:
    (plain,), (per_mac,) = (
        Baseline("taylor", s).decide(problem, 0.5, "macs") for s in ("global", "global-per-mac")
    )
    assert counts(per_mac).sum() >= counts(plain).sum()


def test_random_follows_its_seed(problem: PruningProblem) -> None:
    one, again, other = (
        Baseline("random", "global", seed).decide(problem, 0.5, "macs") for seed in (0, 0, 1)
    )
    assert same(one, again)
    assert not same(one, other)


def test_an_agent_proposes_its_own_decision_and_samples_in_two_ways(problem: PruningProblem) -> None:
    *candidates, by_taylor, by_distance, by_order = untrained(samples=5).decide(problem, 0.5, "macs")
    assert len(candidates) == 7
    own = untrained(samples=0).decide(problem, 0.5, "macs")
    assert same(own[:1], candidates[:1])
    assert same(own[1:2], candidates[4:5])
    assert same(own[2:], [by_taylor, by_distance, by_order])
    assert len({tuple(map(bytes, masks)) for masks in candidates}) == 7
    reseeded = dataclasses.replace(untrained(samples=5), seed=1).decide(problem, 0.5, "macs")
    assert same(reseeded[:1], candidates[:1])
    assert not same(reseeded[1:], candidates[1:])


def test_an_agent_also_proposes_the_order_of_reconstruction_with_three_allocations(
    problem: PruningProblem,
) -> None:
    proposals = untrained(samples=0).decide(problem, 0.5, "macs")[2:]
    orders = reconstructions(problem.model, problem.network, problem.compensation)
    for masks in proposals:
        for mask, reconstruction in zip(masks, orders, strict=True):
            assert reconstruction.ranks[mask].min() == len(mask) - mask.sum()
    counts = [[int(mask.sum()) for mask in masks] for masks in proposals]
    assert len({tuple(own) for own in counts}) == 3
    shares = np.array([mask.mean() for mask in proposals[2]])
    assert np.ptp(shares) < 0.1  # as ranks in a layer are alike everywhere


class PrefersDepth(FilterScorer):
    """Keep filters the more likely, the deeper their layer lies."""

    def forward_actor(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        depth = features["layer"][:, LAYER_FEATURES.index("depth")]  # -1 to 1
        return (1.5 * depth).unsqueeze(1).expand(-1, features["mask"].shape[1])


def test_an_agent_spreads_the_target_over_the_layers_by_its_own_odds(problem: PruningProblem) -> None:
    agent = FrozenAgent(PrefersDepth(len(FILTER_FEATURES), len(LAYER_FEATURES), 4), samples=30)
    candidates = agent.decide(problem, 0.4, "filters")[:-3]
    for masks in (candidates[0], *[[np.stack(layer) for layer in zip(*candidates[1:], strict=True)]]):
        ratios = np.array([mask.mean() for mask in masks])
        odds = np.log(ratios / (1 - ratios))
        np.testing.assert_allclose(np.diff(odds), 3 / (len(ratios) - 1), atol=0.25)


class Saves(FilterScorer):
    """Keep much of every layer until the budget runs out, then next to nothing."""

    def forward_actor(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        needed = features["layer"][:, LAYER_FEATURES.index("needed_keep_ratio")]
        return (8 * needed - 4).unsqueeze(1).expand(-1, features["mask"].shape[1])


def test_what_an_agent_does_about_an_offset_is_not_all_that_is_proposed(problem: PruningProblem) -> None:
    """One that sees early layers keep more may ruin the late ones for it."""
    agent = FrozenAgent(Saves(len(FILTER_FEATURES), len(LAYER_FEATURES), 4), samples=0)
    wanted, episode = [], Episode(problem, TargetReward(0.5), slots=int(problem.network.widths.max()))
    for layer in problem.network.layers:
        seen = {key: torch.from_numpy(array)[None] for key, array in episode.observe().items()}
        logits = agent.scorer.forward_actor(seen)[0, : layer.filters].double().numpy()
        episode.decide(decide_layer(layer, logits, 0.0, None))
        wanted.append(logits[0])
    reacting, steadfast = (
        np.array([mask.mean() for mask in masks]) for masks in agent.decide(problem, 0.5, "macs")[:2]
    )
    for ratios, close in ((steadfast, True), (reacting, False)):
        early = ratios[:4]  # the others cost next to nothing and are filled up
        shift = np.log(early / (1 - early)) - np.array(wanted[:4])
        assert (np.ptp(shift) < 0.5) == close, shift


@settings(max_examples=50)
@given(scores=st.lists(st.floats(-10, 10), min_size=1, max_size=40), count=st.integers(0, 50))
def test_keep_top_keeps_the_best_and_at_least_one(scores: list[float], count: int) -> None:
    values = np.array(scores)
    mask = keep_top(values, count)
    assert mask.sum() == min(len(scores), max(1, count))
    if not mask.all():
        assert values[mask].min() >= values[~mask].max()


def test_keep_top_breaks_ties_by_position() -> None:
    assert keep_top(np.array([1.0, 2.0, 1.0, 1.0]), 2).tolist() == [True, True, False, False]
    assert keep_top(np.zeros(4), 3).tolist() == [True, True, True, False]


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(target=st.floats(0.1, 1), seed=st.integers(0, 1000), size=st.sampled_from(SIZES))
def test_filling_keeps_what_there_was_and_stays_within_the_budget(
    problem: PruningProblem, target: float, seed: int, size: Size
) -> None:
    drawn = np.random.default_rng(seed)
    priorities = [drawn.random(layer.filters) for layer in problem.network.layers]
    masks = [keep_top(drawn.random(len(priority)), 1) for priority in priorities]
    filled = Budget(problem.network, target, size).fill(masks, priorities)
    assert all((after >= before).all() for before, after in zip(masks, filled, strict=True))
    assert all(mask.sum() == 1 for mask in masks)
    assert ratio(problem, filled, size) <= target + 1e-9
    for before, after, priority in zip(masks, filled, priorities, strict=True):
        added, left = after & ~before, ~after
        if added.any() and left.any():
            assert priority[added].min() > priority[left].max()


def test_a_saved_agent_decides_as_before(problem: PruningProblem, tmp_path: Path) -> None:
    agent = untrained(samples=2)
    agent.save(tmp_path)
    loaded = dataclasses.replace(FrozenAgent.load(tmp_path), samples=2)
    assert loaded.trained_on == {"networks": ["demo"]}
    assert same(loaded.decide(problem, 0.4, "macs"), agent.decide(problem, 0.4, "macs"))
    assert {path.name for path in tmp_path.iterdir()} == {"agent.json", "agent.safetensors"}
