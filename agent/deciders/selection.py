"""From deciders to one candidate: propose, measure, choose.

Shapes: N filters of a layer.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from ...envs.cost.counts import smallest_ratio
from ...envs.problem.problem import PruningProblem
from ...envs.surgery.plan import Mask, PruningPlan
from ...rewards import Outcome, Reward
from .base import Decider

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


def choose(problem: PruningProblem, decider: Decider, reward: Reward) -> Choice:
    """Choose what a decider proposes for a target or a drop bound.

    Args:
        problem: The network; its evaluator measures.
        decider: Who proposes.
        reward: With a target: the best proposal that meets it. With a drop bound: the smallest that meets
            that.

    Raises:
        ValueError: If pinned filters make the target unreachable, or no candidate is within the bound.
    """
    if reward.target is not None:
        return _best(problem, decider, reward.target, reward)
    assert reward.drop_bound is not None
    return _smallest_within(problem, decider, reward.drop_bound, reward)


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
