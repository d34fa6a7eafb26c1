"""Deciders that do not learn: each combines a saliency criterion with a scope.

Shapes: L layers, N filters of a layer.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from ...envs.io.suggestions import unknown_name
from ...envs.problem.importance import Scores
from ...envs.problem.problem import PruningProblem
from ...envs.surgery.plan import Mask
from ...rewards import Size
from .base import Budget, Priorities, keep_top
from .names import BASELINES, Scope

_LAYER_NORMALISED = ("l1", "l2", "fpgm")
"""Weight norms are not comparable across layers of different fan-in, so global scopes divide them by the
layer's mean."""


@dataclass(frozen=True)
class Baseline:
    """Keep the filters that score highest on a published criterion.

    Args:
        criterion: ``random`` or one of :data:`secateur.envs.problem.criteria.CRITERIA`.
        scope: ``uniform`` keeps the same ratio of every layer, ``global`` ranks all filters of the network
            together, ``global-per-mac`` ranks them by score divided by the MACs that their removal saves.
        seed: Seed of ``random``.
    """

    criterion: str
    scope: Scope
    seed: int = 0

    @classmethod
    def from_name(cls, name: str, seed: int = 0) -> "Baseline":
        """Create a baseline from its name, one of :data:`BASELINES`.

        Raises:
            ValueError: If the name is unknown.
        """
        criterion, _, scope = name.partition("-")
        if name not in BASELINES:
            raise ValueError(unknown_name("baseline", name, BASELINES))
        return cls(criterion, scope, seed)  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        """The baseline's name in :data:`BASELINES`."""
        return f"{self.criterion}-{self.scope}"

    def decide(self, problem: PruningProblem, target: float, size: Size) -> list[list[Mask]]:
        """Return the largest candidate within the target; see :class:`.base.Decider`."""
        budget = Budget(problem.network, target, size)
        scores = self._scores(problem)
        if self.scope == "uniform":
            return [budget.fill(largest_scaled(budget, problem.network.widths, scores), scores)]
        return [keep_highest(budget, scores)]

    def _scores(self, problem: PruningProblem) -> Scores:
        """Return scores that are comparable across layers as far as the scope compares them."""
        if self.criterion == "random":
            generator = np.random.default_rng(self.seed)
            scores = [generator.random(layer.filters) for layer in problem.network.layers]
        else:
            scores = problem.scores[self.criterion]
        if self.criterion == "bn":
            scores = _fill_missing(scores, problem.scores["l2"])
        if self.scope == "uniform":  # ranks, as Budget.fill compares filters across layers
            return [rankdata(s, "ordinal") / len(s) for s in scores]
        if self.criterion in _LAYER_NORMALISED:
            scores = [score / max(score.mean(), 1e-30) for score in scores]
        if self.scope == "global-per-mac":
            macs = problem.network.macs.per_filter(problem.network.widths)
            scores = [s / max(cost, 1.0) for s, cost in zip(scores, macs, strict=True)]
        return scores


def heuristics() -> list[Baseline]:
    """Return all baselines that look at the filters, that is all but the random ones."""
    return [Baseline.from_name(name) for name in BASELINES if not name.startswith("random-")]


def keep_highest(budget: Budget, scores: Priorities) -> list[Mask]:
    """Rank the filters of all layers together, and keep as many of the highest as the budget allows.

    Args:
        budget: The size budget.
        scores: The score of each filter, one array (N,) per layer.
    """
    return budget.fill(_largest_global(budget, scores), scores)


def _fill_missing(scores: Scores, fallback: Scores) -> Scores:
    """Replace scores that are all 0, of layers without batch-norm, by others scaled to the present mean."""
    means = [score.mean() for score in scores if score.any()]
    scale = float(np.mean(means)) if means else 1.0
    return [
        score if score.any() else other / max(other.mean(), 1e-30) * scale
        for score, other in zip(scores, fallback, strict=True)
    ]


def largest_scaled(budget: Budget, counts: npt.NDArray[np.number], scores: Priorities) -> list[Mask]:
    """Find the largest common share of some numbers of filters within the budget, and keep the best filters.

    Args:
        budget: The size budget.
        counts: Numbers of filters, (L,); the widths keep the same share of all layers.
        scores: The score of each filter, one array (N,) per layer.
    """

    def scaled(share: float) -> npt.NDArray[np.int64]:
        return budget.network.nearest_allowed(np.floor(share * counts))

    low, high = 0.0, 1.0
    if budget.allows(scaled(high)):
        low = high
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if budget.allows(scaled(middle)) else (low, middle)
    return [keep_top(score, count) for score, count in zip(scores, scaled(low).tolist(), strict=True)]


def _largest_global(budget: Budget, scores: Priorities) -> list[Mask]:
    """Find the longest prefix of the network's ranking within the budget by bisection."""
    ranked = np.argsort(-np.concatenate(scores), kind="stable")
    layer_of = np.repeat(np.arange(len(scores)), [len(score) for score in scores])[ranked]

    def counts(prefix: int) -> npt.NDArray[np.int64]:
        return budget.network.nearest_allowed(np.bincount(layer_of[:prefix], minlength=len(scores)))

    low, high = 0, len(ranked)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if budget.allows(counts(middle)) else (low, middle - 1)
    return [keep_top(score, count) for score, count in zip(scores, counts(low).tolist(), strict=True)]
