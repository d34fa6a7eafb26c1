"""Turn an agent's logits into masks that meet a size, by bisection of a shift common to all logits.

Shapes: K candidates, L layers, N filters of a layer.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ...envs.surgery.plan import Mask, resize_mask
from ...envs.tracing import Layer
from ..deciders.base import Budget, keep_top
from .policy import LOGIT_LIMIT

Floats = npt.NDArray[np.float64]

Draws = Sequence[Floats]
"""Uniform random numbers in [0, 1), one array (K - 1, N) per layer."""

Proposals = tuple[list[list[Mask]], list[list[Floats]]]
"""K candidates, each with one mask (N,) per layer, and an agent's logits (N,) for each mask."""

_BISECTIONS = 18
"""Bisection steps over the shift's range of 40; the resolution is 1.5e-4, far finer than one filter."""


def match_budget(budget: Budget, count: int, propose: Callable[[Floats], Proposals]) -> list[list[Mask]]:
    """Find the largest logit shift within the budget for each candidate, then restore filters that still fit.

    Args:
        budget: The size budget.
        count: Number of candidates, K.
        propose: Function from shifts (K,) to candidates; larger shifts keep more filters.

    Returns:
        The candidates that some shift brings within the budget, at most K.
    """
    low, high = np.full(count, -2 * LOGIT_LIMIT), np.full(count, 2 * LOGIT_LIMIT)
    candidates, proposed_logits = propose(low)
    best, logits = list(candidates), list(proposed_logits)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        candidates, proposed_logits = propose(middle)
        for k, within in enumerate(budget.allows([_counts(masks) for masks in candidates])):
            if within:
                low[k], best[k], logits[k] = middle[k], candidates[k], proposed_logits[k]
            else:
                high[k] = middle[k]
    return [
        budget.fill(masks, candidate_logits)
        for masks, candidate_logits in zip(best, logits, strict=True)
        if budget.allows(_counts(masks))
    ]


def masks_from_logits(
    layers: Sequence[Layer], logits: Sequence[Sequence[Floats]], logit_shifts: Floats, draws: Draws
) -> list[list[Mask]]:
    """Choose the masks of K candidates from given logits.

    Args:
        layers: The L layers.
        logits: For each of K candidates one array (N,) per layer.
        logit_shifts: Shift of each candidate's logits, (K,).
        draws: Random numbers for all candidates but the first, which is deterministic.
    """
    return [
        [
            decide_layer(
                layer, candidate_logits[position], logit_shift, draws[position][k - 1] if k else None
            )
            for position, layer in enumerate(layers)
        ]
        for k, (candidate_logits, logit_shift) in enumerate(zip(logits, logit_shifts, strict=True))
    ]


def decide_layer(layer: Layer, logits: Floats, logit_shift: float, draw: Floats | None) -> Mask:
    """Choose the mask of one layer.

    Args:
        layer: The layer.
        logits: Logit of the keep probability of each filter, (N,).
        logit_shift: Number that is added to all logits.
        draw: Uniform random numbers in [0, 1), (N,): filters with a number below their keep probability stay.
            None keeps the filters with the highest logits, as many as the expected number.
    """
    probabilities = 1 / (1 + np.exp(-np.clip(logits + logit_shift, -30, 30)))
    if draw is None:
        return keep_top(logits, layer.nearest_allowed(round(float(probabilities.sum()))))
    drawn = draw < probabilities
    return resize_mask(drawn, layer.nearest_allowed(int(drawn.sum())), logits)


def _counts(masks: Sequence[Mask]) -> npt.NDArray[np.int64]:
    return np.array([mask.sum() for mask in masks], np.int64)
