"""The choice among proposals: never worse than a heuristic, and halving measures the many on fewer images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secateur.agent.deciders.baselines import Baseline, heuristics
from secateur.agent.deciders.names import BASELINES
from secateur.agent.deciders.selection import FINALISTS, choose
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.plan import Mask
from secateur.rewards import Outcome, TargetReward
from support.deciding import ratio
from support.toy import ToyEvaluator, toy_of

TARGET = TargetReward(0.5)


class Shortsighted(ToyEvaluator):
    """Take every candidate for the opposite of what it is."""

    def __call__(self, candidates: Sequence[Sequence[Mask]]) -> list[Outcome]:
        return super().__call__([[~mask for mask in masks] for masks in candidates])


def test_all_heuristics_look_at_filters() -> None:
    assert [each.name for each in heuristics()] == [n for n in BASELINES if not n.startswith("random")]


def test_the_choice_is_never_worse_than_the_best_heuristic(problem: PruningProblem) -> None:
    toy = toy_of(problem)
    poor = Baseline("random", "uniform")
    alone = choose(toy, poor, TARGET)
    choice = choose(toy, poor, TARGET, heuristics=heuristics())
    best = max(choose(toy, each, TARGET).outcome.accuracy for each in heuristics())
    assert alone.best_heuristic is None
    assert choice.best_heuristic is not None
    assert alone.outcome.accuracy < best == choice.outcome.accuracy == choice.best_heuristic[1].accuracy
    assert choice.decider.name == choice.best_heuristic[0] != poor.name
    assert ratio(problem, choice.masks) <= 0.5


def test_a_decider_that_is_better_wins_and_the_best_heuristic_is_named(problem: PruningProblem) -> None:
    good = Baseline("l2", "uniform")  # the toy pays for just its filters
    others = [Baseline("random", "uniform"), Baseline("random", "global")]
    choice = choose(toy_of(problem), good, TARGET, heuristics=others)
    assert choice.decider is good
    assert choice.best_heuristic is not None
    assert choice.best_heuristic[1].accuracy < choice.outcome.accuracy


def test_all_are_looked_at_on_few_images_and_only_finalists_on_all(problem: PruningProblem) -> None:
    toy, few, many = toy_of(problem), ToyEvaluator(problem), ToyEvaluator(problem)
    choice = choose(toy, Baseline("random", "global"), TARGET, heuristics=heuristics(), looks=[few, many])
    proposals = 1 + len(heuristics())
    assert few.evaluations == proposals
    assert many.evaluations == FINALISTS
    assert toy.evaluator.evaluations == 1  # a heuristic has won
    assert choice.evaluations == proposals + FINALISTS + 1
    whole = choose(toy_of(problem), Baseline("random", "global"), TARGET, heuristics=heuristics())
    assert all(np.array_equal(a, b) for a, b in zip(choice.masks, whole.masks, strict=True))


def test_the_best_heuristic_is_among_the_finalists_however_it_looked_at_first(
    problem: PruningProblem,
) -> None:
    class Many(Baseline):
        """Propose the same six times."""

        def decide(self, *args: object) -> list[list[Mask]]:
            return super().decide(*args) * 6  # type: ignore[arg-type]

    toy, many = toy_of(problem), ToyEvaluator(problem)
    agent, heuristic = Many("random", "uniform"), Baseline("l2", "uniform")
    choice = choose(toy, agent, TARGET, heuristics=[heuristic], looks=[Shortsighted(problem), many])
    assert many.evaluations == FINALISTS + 1
    assert choice.decider is heuristic


def test_one_proposal_needs_no_look(problem: PruningProblem) -> None:
    toy, few = toy_of(problem), ToyEvaluator(problem)
    choose(toy, Baseline("l2", "uniform"), TARGET, looks=[few])
    assert few.evaluations == 0
