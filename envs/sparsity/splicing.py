"""Masks that are revised while the network trains: weights go, and others come back."""

from __future__ import annotations

import torch
from torch import nn

from .filters import unmasked_state
from .masks import keep_masks, set_masks


def splice(model: nn.Module, share: float, margin: float) -> int:
    """Revise the masks of a network in place, by the magnitudes that weights now have behind them.

    Of the two thresholds of Guo et al. 2016, arXiv 1608.04493, eq. 4, the upper one is ``1 + margin`` times
    the lower one: a weight that stays goes if it is below the lower one, a removed one comes back if it is
    above the upper one. They are where the size is met.

    Args:
        model: A network with masks that let removed weights learn (``straight_through`` of
            :func:`.apply_masks`).
        share: Share of the masked weights that is kept afterwards, in [0, 1]; at least one of each layer.
        margin: How much larger than what goes a weight has to be to come back, as a share, at least 0.

    Returns:
        The number of weights that came back.
    """
    before, state = keep_masks(model), unmasked_state(model)
    scores = {
        name: (state[name].abs().float() * (1 + margin * mask.float())).contiguous()
        for name, mask in before.items()
    }
    for score in scores.values():
        score.view(-1)[score.argmax()] = torch.inf  # no layer is left empty
    every = torch.cat([score.flatten() for score in scores.values()])
    count = max(len(scores), round(share * every.numel()))
    kept = torch.zeros_like(every, dtype=torch.bool)
    kept[every.argsort(descending=True, stable=True)[:count]] = True
    parts = kept.split([mask.numel() for mask in before.values()])
    after = {name: part.reshape(mask.shape) for (name, mask), part in zip(before.items(), parts, strict=True)}
    set_masks(model, after)
    return sum(int((after[name] & ~mask).sum()) for name, mask in before.items())
