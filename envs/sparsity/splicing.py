"""Masks that are revised while the network trains: weights go, and others come back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .criteria import magnitude_masks
from .filters import unmasked_state
from .masks import keep_masks, set_masks


@torch.no_grad()
def splice(model: nn.Module, share: float, *, margin: float, most: float, fade: float) -> int:
    """Revise the masks of a network in place, by the magnitudes that weights now have behind them.

    How many weights each layer keeps is what :func:`.magnitude_masks` gives it. Which ones these are follows
    the layer's two thresholds of Guo et al. 2016, arXiv 1608.04493, eq. 4: a weight that stays goes if it is
    below the lower one, a removed one comes back if it is above the upper one, ``1 + margin`` times as large.
    They are where the layer keeps so many.

    Args:
        model: A network with masks that let removed weights learn (``straight_through`` of
            :func:`.apply_masks`).
        share: Share of the masked weights that is kept afterwards, in (0, 1].
        margin: How much larger than what goes a weight has to be to come back, as a share, at least 0.
        most: Most weights that come back, as a share of those that the layer keeps, in [0, 1].
        fade: Share of a removed weight that is taken from it, in [0, 1]: what its gradient once said is
            forgotten.

    Returns:
        The number of weights that came back.
    """
    before, state, returns = keep_masks(model), unmasked_state(model), 0
    after = {}
    for name, mask in magnitude_masks(model, share).items():
        weight, held, count = state[name], before[name], int(mask.sum())
        size = weight.abs().float()
        may_return = _largest(size.masked_fill(held, -1), round(most * count))
        score = (size * (1 + margin * held)).masked_fill(~held & ~may_return, -1)
        after[name] = _largest(score, count)
        returns += int((after[name] & ~held).sum())
        weight.mul_(torch.where(after[name], 1.0, 1 - fade))
    set_masks(model, after)
    return returns


def _largest(score: Tensor, count: int) -> Tensor:
    """Keep the largest entries, the earlier ones of equal ones."""
    kept = torch.zeros(score.numel(), dtype=torch.bool, device=score.device)
    kept[score.flatten().argsort(descending=True, stable=True)[:count]] = True
    return kept.reshape(score.shape)
