"""Choose one candidate among a decider's proposals by measuring them.

Shapes: N filters of a layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from torch import nn

from ...envs.cost.counts import smallest_ratio
from ...envs.evaluation.base import Evaluator
from ...envs.evaluation.journal import Journal
from ...envs.problem.problem import PruningProblem
from ...envs.surgery.plan import Mask, PruningPlan
from ...envs.tasks.base import SplitName
from ...rewards import Outcome, Reward, RewardFunction, as_reward
from .averaging import averages
from .base import Decider

_SIZES = 10
"""Number of sizes, from the smallest to the dense one, that are tried if a reward has no target."""

FINALISTS = 4
"""Proposals that go on after a look at all proposals."""

SEEN_AND_UNSEEN: tuple[SplitName, ...] = ("val", "train")
"""Where the images are from on which proposals are ranked. Those of ``val`` alone may be of one kind, as the
frames of one drive are; what is best on both is less of an accident."""


@dataclass(frozen=True)
class Proposal:
    """A candidate and who proposed it.

    Args:
        masks: One keep mask (N,) per layer.
        decider: The decider that proposed it.
    """

    masks: list[Mask]
    decider: Decider


@dataclass(frozen=True)
class Choice:
    """The chosen candidate.

    Args:
        masks: One keep mask (N,) per layer.
        outcome: The candidate's outcome on val.
        evaluations: Number of measurements that the choice took.
        decider: The decider that proposed it.
        best_heuristic: Name and outcome of the best heuristic of the same size, on the same images; None if
            heuristics were not compared.
    """

    masks: list[Mask]
    outcome: Outcome
    evaluations: int
    decider: Decider
    best_heuristic: tuple[str, Outcome] | None = None


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


def choose(
    problem: PruningProblem,
    decider: Decider,
    reward: RewardFunction,
    *,
    heuristics: Sequence[Decider] = (),
    looks: Sequence[Evaluator] = (),
) -> Choice:
    """Choose among a decider's proposals, and those of heuristics.

    A reward with a target gets the most accurate proposal of that size, or average of the decider's own (see
    :func:`.averages`), any other the proposal with the highest reward among several sizes.

    Args:
        problem: The network, with the evaluator that measures the outcome.
        decider: The decider that proposes candidates.
        reward: Any function of an outcome.
        heuristics: Deciders whose proposals take part, so that the choice is never worse than theirs on the
            images that decide.
        looks: Evaluators that rank the proposals; see :func:`looks_at`. The first one measures all, the next
            one only the best four and the best heuristic (successive halving, Jamieson and Talwalkar 2016,
            arXiv 1502.07943). Without any, the problem's evaluator ranks.

    Raises:
        ValueError: If pinned filters make the target unreachable.
    """
    reward = as_reward(reward)
    chooser = _Chooser(problem, (decider, *heuristics), reward, looks)
    if reward.target is not None:
        return chooser.most_accurate(reward.target)
    return chooser.highest()


def looks_at(
    problem: PruningProblem, images: Sequence[int], *, seed: int = 0, journal: Journal | None = None
) -> list[Evaluator]:
    """Make the evaluators that rank proposals: half of their images are of val, half of train.

    Args:
        problem: The network and its data.
        images: Images of each evaluator, the fewest first.
        seed: Seed for the choice of images for batch-norm statistics.
        journal: Outcomes of candidates that were measured before.
    """
    return [
        problem.choice_problem(number, splits=SEEN_AND_UNSEEN, seed=seed, journal=journal).evaluator
        for number in images
    ]


_Key: TypeAlias = Callable[[Outcome], tuple[float, ...]]


@dataclass(frozen=True)
class _Chooser:
    """Choose among the proposals of several deciders; all but the first are heuristics."""

    problem: PruningProblem
    deciders: tuple[Decider, ...]
    reward: Reward
    looks: Sequence[Evaluator]

    def most_accurate(self, target: float) -> Choice:
        """Take the most accurate proposal for a target, averages included; the lower loss breaks ties."""
        return self._best(self._proposals(target), _accuracy, target)

    def highest(self) -> Choice:
        """Take the proposal with the highest reward among several sizes."""
        sizes = np.linspace(smallest_ratio(self.problem.network, self.reward.size), 1, _SIZES).tolist()
        proposals = [proposal for size in sizes for proposal in self._proposals(size)]
        return self._best(proposals, lambda outcome: (self.reward(outcome),), None)

    def _proposals(self, target: float) -> list[Proposal]:
        problem, size = self.problem, self.reward.size
        return [
            Proposal(masks, decider)
            for decider in self.deciders
            for masks in decider.decide(problem, target, size)
        ]

    def _best(self, proposals: list[Proposal], key: _Key, target: float | None) -> Choice:
        """Measure proposals and take the one with the largest key; earlier ones win ties.

        Args:
            proposals: The proposals.
            key: What is largest for the best one.
            target: The target for which averages take part; None leaves them out.
        """
        looked_at = 0
        for look in self.looks if len(proposals) > 1 else ():
            ranked = self._ranked(proposals, key, look, target)
            looked_at, target = looked_at + len(ranked), None
            proposals = self._finalists([proposal for proposal, _ in ranked], FINALISTS)
        if looked_at:  # they have decided, and the order stays
            proposals, key = self._finalists(proposals, 1), lambda outcome: ()
        ranked = self._ranked(proposals, key, self.problem.evaluator, target)
        best, outcome = ranked[0]
        heuristics = ((each.decider.name, found) for each, found in ranked if self._is_heuristic(each))
        return Choice(best.masks, outcome, looked_at + len(ranked), best.decider, next(heuristics, None))

    def _ranked(
        self, proposals: list[Proposal], key: _Key, evaluator: Evaluator, target: float | None
    ) -> list[tuple[Proposal, Outcome]]:
        """Measure proposals, and averages of the decider's own if there is a target; the best come first."""
        found = _measured(proposals, evaluator)
        if target is not None:
            own = [(each.masks, outcome) for each, outcome in found if not self._is_heuristic(each)]
            means = averages(self.problem, target, self.reward.size, own)
            found += _measured([Proposal(masks, self.deciders[0]) for masks in means], evaluator)
        return sorted(found, key=lambda pair: key(pair[1]), reverse=True)

    def _finalists(self, ranked: list[Proposal], number: int) -> list[Proposal]:
        """Return the best proposals, and the best heuristic if it is not among them."""
        finalists = ranked[:number]
        if not any(map(self._is_heuristic, finalists)):
            finalists += [proposal for proposal in ranked if self._is_heuristic(proposal)][:1]
        return finalists

    def _is_heuristic(self, proposal: Proposal) -> bool:
        return proposal.decider is not self.deciders[0]


def _measured(proposals: list[Proposal], evaluator: Evaluator) -> list[tuple[Proposal, Outcome]]:
    outcomes = evaluator([proposal.masks for proposal in proposals]) if proposals else []
    return list(zip(proposals, outcomes, strict=True))


def _accuracy(outcome: Outcome) -> tuple[float, float]:
    return outcome.accuracy, -outcome.loss
