"""Turn an agent's logits into masks that meet a budget, by bisecting one shift of all logits.

Shapes: K candidates, L layers, N filters of a layer.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ...envs.surgery.cutting import Mask
from ...envs.surgery.plan import resize_mask
from ...envs.tracing import Layer
from ..deciders.base import Budget, keep_top
from .policy import LOGIT_LIMIT

Floats = npt.NDArray[np.float64]

Draws = Sequence[Floats]
"""Random numbers in [0, 1), one per filter: one array (K - 1, N) per layer."""

Proposals = tuple[list[list[Mask]], list[list[Floats]]]
"""K candidates, each with one mask (N,) per layer, and the agent's logits (N,) for each mask."""

_BISECTIONS = 18
"""Bisection steps of the shift's range of 40: to 1.5e-4, far finer than one filter of a layer."""


def match_budget(budget: Budget, count: int, propose: Callable[[Floats], Proposals]) -> list[list[Mask]]:
    """Bisect the logit shift of each candidate until it meets the budget, then use up the rest of the budget.

    Args:
        budget: The size that must not be exceeded.
        count: Number of candidates, K.
        propose: Returns candidates for logit shifts (K,); a larger shift keeps more.

    Returns:
        The candidates for which a shift within the budget exists.
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
    """Make masks from given logits.

    Args:
        layers: The L layers.
        logits: For each of K candidates, one array (N,) per layer.
        logit_shifts: Shifts added to the candidates' logits, (K,).
        draws: Random numbers for all candidates but the first, which is deterministic.
    """
    return [
        [
            decide_layer(layer, own[position], logit_shift, draws[position][k - 1] if k else None)
            for position, layer in enumerate(layers)
        ]
        for k, (own, logit_shift) in enumerate(zip(logits, logit_shifts, strict=True))
    ]


def decide_layer(layer: Layer, logits: Floats, logit_shift: float, draw: Floats | None) -> Mask:
    """Make the mask of a layer.

    Args:
        layer: The layer.
        logits: Logits of keeping each filter, (N,).
        logit_shift: Shift added to the logits.
        draw: Random numbers in [0, 1), (N,): filters with a number below their keep probability stay. None
            keeps the filters with the highest logits, as many as are kept on average.
    """
    probabilities = 1 / (1 + np.exp(-np.clip(logits + logit_shift, -30, 30)))
    if draw is None:
        return keep_top(logits, layer.nearest_allowed(round(float(probabilities.sum()))))
    drawn = draw < probabilities
    return resize_mask(drawn, layer.nearest_allowed(int(drawn.sum())), logits)


def _counts(masks: Sequence[Mask]) -> npt.NDArray[np.int64]:
    return np.array([mask.sum() for mask in masks], np.int64)
