"""Averages of the best proposals meet the target, and take what most of the best keep."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from secateur.agent.deciders.averaging import AVERAGES, BEST, averages
from secateur.agent.deciders.baselines import Baseline
from secateur.agent.deciders.selection import FINALISTS, choose
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.plan import Mask
from secateur.rewards import Outcome, TargetReward
from support.deciding import ratio, untrained
from support.toy import ToyEvaluator, toy_of

Measured = list[tuple[list[Mask], Outcome]]


def measured(problem: PruningProblem, count: int, target: float = 0.5) -> Measured:
    """Measure random proposals for a target."""
    toy = toy_of(problem).evaluator
    found = [Baseline("random", "uniform", seed).decide(problem, target, "macs")[0] for seed in range(count)]
    return list(zip(found, toy(found), strict=True))


@pytest.mark.parametrize("target", [0.7, 0.5, 0.2])
def test_each_meets_the_target_and_uses_it(problem: PruningProblem, target: float) -> None:
    found = averages(problem, target, "macs", measured(problem, 12, target))
    assert len(found) == AVERAGES
    for masks in found:
        assert 0.95 * target < ratio(problem, masks) <= target
        assert all(mask.any() for mask in masks)


def test_the_vote_of_equals_is_what_they_are(problem: PruningProblem) -> None:
    same, other = measured(problem, 2)
    worse = (other[0], dataclasses.replace(other[1], loss=same[1].loss + 1))
    found = averages(problem, 0.5, "macs", [worse] * 4 + [same] * BEST[0])
    assert all(np.array_equal(a, b) for a, b in zip(found[0], same[0], strict=True))


def test_those_with_the_lowest_loss_count_and_their_order_does_not(problem: PruningProblem) -> None:
    proposals = measured(problem, 12)
    best = sorted(proposals, key=lambda pair: pair[1].loss)[: BEST[1]]
    worst_first = sorted(proposals, key=lambda pair: -pair[1].loss)
    for one, other in zip(
        averages(problem, 0.5, "macs", best), averages(problem, 0.5, "macs", worst_first), strict=True
    ):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_few_proposals_are_not_averaged(problem: PruningProblem) -> None:
    assert averages(problem, 0.5, "macs", measured(problem, BEST[1] - 1)) == []


def test_averages_of_an_agent_take_part_in_the_choice(problem: PruningProblem) -> None:
    toy, agent = toy_of(problem), untrained()
    few, many = ToyEvaluator(problem), ToyEvaluator(problem)
    proposals = len(agent.decide(problem, 0.5, "macs"))
    choice = choose(toy, agent, TargetReward(0.5), looks=[few, many])
    assert few.evaluations == proposals + AVERAGES
    assert choice.evaluations == proposals + AVERAGES + FINALISTS + 1
    assert choice.decider is agent
    assert choose(toy_of(problem), agent, TargetReward(0.5)).evaluations == proposals + AVERAGES
