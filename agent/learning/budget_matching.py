"""Scores become masks of a wanted size: one shift of all of an agent's logits, bisected.

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
"""A number in [0, 1) a filter: one array (K - 1, N) a layer."""

Proposals = tuple[list[list[Mask]], list[list[Floats]]]
"""K candidates, each with one mask (N,) a layer, and an agent's logits (N,) for each."""

_BISECTIONS = 18
"""Halvings of the shift's range of 40: to 1.5e-4, far finer than one filter of a layer."""


def match_budget(budget: Budget, count: int, propose: Callable[[Floats], Proposals]) -> list[list[Mask]]:
    """Bisect the shift of each candidate until its size is met, and fill up what is left.

    Args:
        budget: The size.
        count: K.
        propose: Gives candidates for their shifts (K,); the larger a shift, the more is kept.

    Returns:
        Those that can be within the budget.
    """
    low, high = np.full(count, -2 * LOGIT_LIMIT), np.full(count, 2 * LOGIT_LIMIT)
    candidates, found = propose(low)
    best, logits = list(candidates), list(found)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        candidates, found = propose(middle)
        for k, within in enumerate(budget.allows([_counts(masks) for masks in candidates])):
            if within:
                low[k], best[k], logits[k] = middle[k], candidates[k], found[k]
            else:
                high[k] = middle[k]
    return [
        budget.fill(masks, own)
        for masks, own in zip(best, logits, strict=True)
        if budget.allows(_counts(masks))
    ]


def masks_from_logits(
    layers: Sequence[Layer], logits: Sequence[Sequence[Floats]], logit_shifts: Floats, draws: Draws
) -> list[list[Mask]]:
    """Decide by given logits.

    Args:
        layers: L of them.
        logits: For each of K candidates one array (N,) a layer.
        logit_shifts: Are added to them, (K,).
        draws: Decide for all candidates but the first.
    """
    return [
        [
            decide_layer(layer, own[position], logit_shift, draws[position][k - 1] if k else None)
            for position, layer in enumerate(layers)
        ]
        for k, (own, logit_shift) in enumerate(zip(logits, logit_shifts, strict=True))
    ]


def decide_layer(layer: Layer, logits: Floats, logit_shift: float, draw: Floats | None) -> Mask:
    """Decide about a layer.

    Args:
        layer: The layer.
        logits: Of keeping each filter, (N,).
        logit_shift: Is added to them.
        draw: A number in [0, 1) a filter, (N,): those below their probability stay. With None the best stay,
            as many as are to be expected.
    """
    probabilities = 1 / (1 + np.exp(-np.clip(logits + logit_shift, -30, 30)))
    if draw is None:
        return keep_top(logits, layer.nearest_allowed(round(float(probabilities.sum()))))
    drawn = draw < probabilities
    return resize_mask(drawn, layer.nearest_allowed(int(drawn.sum())), logits)


def _counts(masks: Sequence[Mask]) -> npt.NDArray[np.int64]:
    return np.array([mask.sum() for mask in masks], np.int64)
