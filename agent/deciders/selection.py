"""From deciders to one candidate: propose, measure, choose.

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
"""Proposals are made for so many sizes, from the smallest to the dense one, where no size is wanted."""

_HALVINGS = 7
"""Steps to the smallest size within a drop bound: to 1 % of the dense size."""


@dataclass(frozen=True)
class Choice:
    """The chosen candidate.

    Args:
        masks: One keep mask (N,) a layer.
        outcome: What was measured on val.
        evaluations: Candidates that were measured for the choice.
    """

    masks: list[Mask]
    outcome: Outcome
    evaluations: int


@dataclass(frozen=True)
class SearchResult:
    """What a search ends with.

    Args:
        model: The cut network.
        plan: What it kept of the dense one.
        decider: Who decided.
        search: What the search took and found, figures by name, for the report.
        unrounded: What the decider would keep if it could keep any number; None where nobody asked.
    """

    model: nn.Module
    plan: PruningPlan
    decider: str
    search: dict[str, Any]
    unrounded: PruningPlan | None = None


def choose(problem: PruningProblem, decider: Decider, judge: RewardFunction) -> Choice:
    """Choose what a decider proposes for a target, a drop bound, or neither.

    Args:
        problem: The network; its evaluator measures.
        decider: Who proposes.
        judge: Any function of an outcome. With a target: the best proposal that meets it. With a drop bound:
            the smallest that meets that. With neither: the one with the highest reward, of several sizes.

    Raises:
        ValueError: If pinned filters make the target unreachable, or no candidate is within the bound.
    """
    reward = as_reward(judge)
    if reward.target is not None:
        return _best(problem, decider, reward.target, reward)
    if reward.drop_bound is not None:
        return _smallest_within(problem, decider, reward.drop_bound, reward)
    return _highest(problem, decider, reward)


def _best(problem: PruningProblem, decider: Decider, target: float, reward: Reward) -> Choice:
    """Measure all proposals for a size and take the most accurate; the lower loss breaks ties."""
    candidates = decider.decide(problem, target, reward.size)
    outcomes = problem.evaluator(candidates)
    best = max(range(len(outcomes)), key=lambda k: (outcomes[k].accuracy, -outcomes[k].loss))
    return Choice(candidates[best], outcomes[best], len(outcomes))


def _smallest_within(problem: PruningProblem, decider: Decider, bound: float, reward: Reward) -> Choice:
    """Bisect the size."""
    evaluations = 0
    found: Choice | None = None
    low, high = smallest_ratio(problem.network, reward.size), 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        choice = _best(problem, decider, middle, reward)
        evaluations += choice.evaluations
        if choice.outcome.accuracy_drop <= bound:
            found, high = choice, middle
        else:
            low = middle
    if found is None:
        raise ValueError(
            f"no candidate of {decider.name} keeps the accuracy drop on val within {bound:g} points; "
            "raise --drop-bound, or give --target-macs and let fine-tuning recover the accuracy"
        )
    return Choice(found.masks, found.outcome, evaluations)


def _highest(problem: PruningProblem, decider: Decider, reward: Reward) -> Choice:
    """Measure proposals for several sizes and take the one with the highest reward."""
    sizes = np.linspace(smallest_ratio(problem.network, reward.size), 1, _SIZES).tolist()
    candidates = [masks for size in sizes for masks in decider.decide(problem, size, reward.size)]
    outcomes = problem.evaluator(candidates)
    best = int(np.argmax([reward(outcome) for outcome in outcomes]))
    return Choice(candidates[best], outcomes[best], len(outcomes))
