"""Heuristic deciders: an importance criterion and a scope.

Shapes: L layers, N filters of a layer.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...envs.io.suggestions import unknown_name
from ...envs.problem.importance import Scores
from ...envs.problem.problem import PruningProblem
from ...envs.surgery.cutting import Mask
from ...rewards import Size
from .base import Budget, keep_top
from .names import BASELINES, Scope

_LAYER_NORMALISED = ("l1", "l2", "fpgm")
"""Criteria that cannot be compared across layers with different fan-in; for a global ranking they are divided
by the layer's mean."""


@dataclass(frozen=True)
class Baseline:
    """Keep the most important filters by a criterion of the literature.

    Args:
        criterion: ``random`` or one of :data:`secateur.envs.problem.criteria.CRITERIA`.
        scope: ``uniform`` uses the same keep ratio in every layer, ``global`` ranks all filters of the
            network together, ``global-per-mac`` ranks them by score per MAC saved.
        seed: Seed for ``random``.
    """

    criterion: str
    scope: Scope
    seed: int = 0

    @classmethod
    def from_name(cls, name: str, seed: int = 0) -> "Baseline":
        """Make a baseline from a name in :data:`BASELINES`.

        Raises:
            ValueError: If the name is unknown.
        """
        criterion, _, scope = name.partition("-")
        if name not in BASELINES:
            raise ValueError(unknown_name("baseline", name, BASELINES))
        return cls(criterion, scope, seed)  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        """The name in :data:`BASELINES`."""
        return f"{self.criterion}-{self.scope}"

    def decide(self, problem: PruningProblem, target: float, size: Size) -> list[list[Mask]]:
        """Return the largest candidate within the target; see :class:`.base.Decider`."""
        budget = Budget(problem.network, target, size)
        scores = self._scores(problem)
        masks = (
            _largest_uniform(budget, scores) if self.scope == "uniform" else _largest_global(budget, scores)
        )
        return [budget.fill(masks, scores)]

    def _scores(self, problem: PruningProblem) -> Scores:
        """Return scores that can be compared across layers, if the scope needs that."""
        if self.criterion == "random":
            generator = np.random.default_rng(self.seed)
            scores = [generator.random(layer.filters) for layer in problem.network.layers]
        else:
            scores = problem.scores[self.criterion]
        if self.criterion == "bn":
            scores = _without_gaps(scores, problem.scores["l2"])
        if self.scope == "uniform":  # Budget.fill compares layers too: use ranks
            return [(np.argsort(np.argsort(s, kind="stable"), kind="stable") + 1) / len(s) for s in scores]
        if self.criterion in _LAYER_NORMALISED:
            scores = [score / max(score.mean(), 1e-30) for score in scores]
        if self.scope == "global-per-mac":
            macs = problem.network.macs.per_filter(problem.network.widths)
            scores = [s / max(cost, 1.0) for s, cost in zip(scores, macs, strict=True)]
        return scores


def _without_gaps(scores: Scores, substitute: Scores) -> Scores:
    """Give layers without batch-norm, whose scores are all 0, another score, scaled to the others' mean."""
    present = [score.mean() for score in scores if score.any()]
    scale = float(np.mean(present)) if present else 1.0
    return [
        score if score.any() else other / max(other.mean(), 1e-30) * scale
        for score, other in zip(scores, substitute, strict=True)
    ]


def _largest_uniform(budget: Budget, scores: Scores) -> list[Mask]:
    """Find the largest keep ratio, the same for all layers, by bisection."""
    network = budget.network

    def counts(ratio: float) -> npt.NDArray[np.int64]:
        return network.nearest_allowed(np.floor(ratio * network.widths))

    low, high = 0.0, 1.0
    if budget.allows(counts(high)):
        low = high
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if budget.allows(counts(middle)) else (low, middle)
    return [keep_top(score, count) for score, count in zip(scores, counts(low).tolist(), strict=True)]


def _largest_global(budget: Budget, scores: Scores) -> list[Mask]:
    """Keep the longest prefix of the global ranking that is within the budget."""
    ranked = np.argsort(-np.concatenate(scores), kind="stable")
    layer_of = np.repeat(np.arange(len(scores)), [len(score) for score in scores])[ranked]

    def counts(prefix: int) -> npt.NDArray[np.int64]:
        return budget.network.nearest_allowed(np.bincount(layer_of[:prefix], minlength=len(scores)))

    low, high = 0, len(ranked)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if budget.allows(counts(middle)) else (low, middle - 1)
    return [keep_top(score, count) for score, count in zip(scores, counts(low).tolist(), strict=True)]
