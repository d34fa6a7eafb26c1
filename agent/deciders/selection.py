"""Choose one candidate: a decider proposes, the evaluator measures.

Shapes: N filters of a layer.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from ...envs.cost.counts import smallest_ratio
from ...envs.problem.problem import PruningProblem
from ...envs.surgery.cutting import Mask
from ...envs.surgery.plan import PruningPlan
from ...rewards import Outcome, Reward
from .base import Decider

_HALVINGS = 7
"""Bisection steps to the smallest size within a drop bound: a precision of 1 % of the dense size."""


@dataclass(frozen=True)
class Choice:
    """The chosen candidate.

    Args:
        masks: One keep mask (N,) per layer.
        outcome: Its outcome on val.
        evaluations: Number of candidates measured for the choice.
    """

    masks: list[Mask]
    outcome: Outcome
    evaluations: int


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Args:
        model: The cut network.
        plan: The filters that it kept of the dense network.
        decider: Name of the decider.
        search: Figures about the search by name, for the report.
        unrounded: The decider's plan without rounding of widths; None without rounding.
    """

    model: nn.Module
    plan: PruningPlan
    decider: str
    search: dict[str, Any]
    unrounded: PruningPlan | None = None


def choose(problem: PruningProblem, decider: Decider, reward: Reward) -> Choice:
    """Choose the best of a decider's candidates for a target or a drop bound.

    Args:
        problem: The problem with the network and the evaluator.
        decider: The decider that proposes candidates.
        reward: Its target, for which the most accurate candidate is chosen; or its drop bound, for which the
            smallest candidate is chosen.

    Raises:
        ValueError: If pinned filters make the target unreachable, or no candidate is within the bound.
    """
    if reward.target is not None:
        return _best(problem, decider, reward.target, reward)
    assert reward.drop_bound is not None
    return _smallest_within(problem, decider, reward.drop_bound, reward)


def _best(problem: PruningProblem, decider: Decider, target: float, reward: Reward) -> Choice:
    """Measure all candidates for a target and return the most accurate; the lower loss breaks ties."""
    candidates = decider.decide(problem, target, reward.size)
    outcomes = problem.evaluator(candidates)
    best = max(range(len(outcomes)), key=lambda k: (outcomes[k].accuracy, -outcomes[k].loss))
    return Choice(candidates[best], outcomes[best], len(outcomes))


def _smallest_within(problem: PruningProblem, decider: Decider, bound: float, reward: Reward) -> Choice:
    """Find the smallest size within a drop bound by bisection."""
    evaluations = 0
    best: Choice | None = None
    low, high = smallest_ratio(problem.network, reward.size), 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        choice = _best(problem, decider, middle, reward)
        evaluations += choice.evaluations
        if choice.outcome.accuracy_drop <= bound:
            best, high = choice, middle
        else:
            low = middle
    if best is None:
        raise ValueError(
            f"no candidate of {decider.name} keeps the accuracy drop on val within {bound:g} points; "
            "raise --drop-bound, or give --target-macs and let fine-tuning recover the accuracy"
        )
    return Choice(best.masks, best.outcome, evaluations)
