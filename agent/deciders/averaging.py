"""Average an agent's best proposals: what they have in common is less of an accident than the best of them.

Shapes: N filters of a layer.
"""

from collections.abc import Sequence

import numpy as np

from ...envs.problem.features import RECONSTRUCTION
from ...envs.problem.problem import PruningProblem
from ...envs.surgery.plan import Mask
from ...rewards import Outcome, Size
from .base import Budget, Priorities
from .baselines import largest_scaled

BEST = (4, 8)
"""Numbers of best proposals that are averaged."""

AVERAGES = 2 * len(BEST)
"""Number of averages."""


def averages(
    problem: PruningProblem, target: float, size: Size, measured: Sequence[tuple[list[Mask], Outcome]]
) -> list[list[Mask]]:
    """Average the proposals with the lowest loss, with the mean of their numbers of filters.

    Each average takes the filters that most of them keep, or the first ones in the order of reconstruction.

    Args:
        problem: The network and its features.
        target: Largest size ratio, pruned / dense, in (0, 1].
        size: The cost that has to meet the target.
        measured: An agent's proposals, each with one keep mask (N,) per layer, and their outcomes on the same
            images.

    Returns:
        :data:`AVERAGES` candidates; none if there are fewer proposals than are averaged.
    """
    if len(measured) < max(BEST):
        return []
    budget = Budget(problem.network, target, size)
    by_reconstruction = [features[:, RECONSTRUCTION].astype(float) for features in problem.features.filters]
    ranked = [masks for masks, _ in sorted(measured, key=lambda pair: pair[1].loss)]
    found: list[list[Mask]] = []
    for number in BEST:
        shares = [np.mean(masks, axis=0) for masks in zip(*ranked[:number], strict=True)]
        counts = np.array([share.sum() for share in shares])
        orders: tuple[Priorities, ...] = (_votes(shares, by_reconstruction), by_reconstruction)
        found += [budget.fill(largest_scaled(budget, counts, order), order) for order in orders]
    return found


def _votes(shares: Priorities, tie_breaker: Priorities) -> Priorities:
    return [share + 1e-3 * other for share, other in zip(shares, tie_breaker, strict=True)]
