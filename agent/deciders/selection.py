"""Choose one candidate among a decider's proposals by measuring them.

Shapes: N filters of a layer.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ...envs.cost.counts import smallest_ratio
from ...envs.problem.problem import PruningProblem
from ...envs.surgery.plan import Mask, PruningPlan
from ...rewards import Outcome, Reward, RewardFunction, as_reward
from .base import Decider

_SIZES = 10
"""Number of sizes, from the smallest to the dense one, that are tried if a reward has no target."""

_BISECTIONS = 7
"""Bisection steps to the smallest size within a drop bound; the resolution is 1 % of the dense size."""


@dataclass(frozen=True)
class Choice:
    """The chosen candidate.

    Args:
        masks: One keep mask (N,) per layer.
        outcome: The candidate's outcome on val.
        evaluations: Number of candidates that were measured for the choice.
    """

    masks: list[Mask]
    outcome: Outcome
    evaluations: int


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Args:
        model: The cut network.
        plan: The filters of the dense network that it keeps.
        decider: The decider's name.
        search: Duration, number of evaluations and accuracies of the search, for the report.
        unrounded: The decider's plan without rounding of filter counts; None if there is no rounding.
    """

    model: nn.Module
    plan: PruningPlan
    decider: str
    search: dict[str, Any]
    unrounded: PruningPlan | None = None


def choose(problem: PruningProblem, decider: Decider, reward: RewardFunction) -> Choice:
    """Choose among a decider's proposals.

    A reward with a target gets the most accurate proposal of that size, one with a drop bound the smallest
    within the bound, any other the proposal with the highest reward among several sizes.

    Args:
        problem: The network, with the evaluator that measures the proposals.
        decider: The decider that proposes candidates.
        reward: Any function of an outcome.

    Raises:
        ValueError: If pinned filters make the target unreachable, or no candidate is within the bound.
    """
    reward = as_reward(reward)
    if reward.target is not None:
        return _most_accurate(problem, decider, reward.target, reward)
    if reward.drop_bound is not None:
        return _smallest_within(problem, decider, reward.drop_bound, reward)
    return _highest(problem, decider, reward)


def _most_accurate(problem: PruningProblem, decider: Decider, target: float, reward: Reward) -> Choice:
    """Measure all proposals for a target and take the most accurate; the lower loss breaks ties."""
    candidates = decider.decide(problem, target, reward.size)
    outcomes = problem.evaluator(candidates)
    best = max(range(len(outcomes)), key=lambda k: (outcomes[k].accuracy, -outcomes[k].loss))
    return Choice(candidates[best], outcomes[best], len(outcomes))


def _smallest_within(problem: PruningProblem, decider: Decider, bound: float, reward: Reward) -> Choice:
    """Find the smallest size whose most accurate proposal is within the drop bound, by bisection."""
    evaluations = 0
    smallest: Choice | None = None
    low, high = smallest_ratio(problem.network, reward.size), 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        choice = _most_accurate(problem, decider, middle, reward)
        evaluations += choice.evaluations
        if choice.outcome.accuracy_drop <= bound:
            smallest, high = choice, middle
        else:
            low = middle
    if smallest is None:
        raise ValueError(
            f"no candidate of {decider.name} keeps the accuracy drop on val within {bound:g} points; "
            "raise --drop-bound, or give --target-macs and let fine-tuning recover the accuracy"
        )
    return Choice(smallest.masks, smallest.outcome, evaluations)


def _highest(problem: PruningProblem, decider: Decider, reward: Reward) -> Choice:
    """Measure proposals for several sizes and take the one with the highest reward."""
    sizes = np.linspace(smallest_ratio(problem.network, reward.size), 1, _SIZES).tolist()
    candidates = [masks for size in sizes for masks in decider.decide(problem, size, reward.size)]
    outcomes = problem.evaluator(candidates)
    best = int(np.argmax([reward(outcome) for outcome in outcomes]))
    return Choice(candidates[best], outcomes[best], len(outcomes))
