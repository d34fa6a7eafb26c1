"""A reward for a target size."""

import math
from dataclasses import dataclass

from .outcome import Outcome, Size, check_size, is_number

_EXCHANGE = 4.0
"""Change of the reward's loss term per unit of size ratio: between 20 % and 90 % of the size, 1 % more size
improves it by about 0.04."""

_BAND = 0.03
"""Size ratio below the target up to which the reward compensates for the smaller size. Without this limit an
agent learns to remove everything."""

OVERSHOOT_PRICE = 2 * _EXCHANGE
"""Reward lost per unit of size ratio above the target: twice what the extra size gains. A much higher price
makes an agent stay far below the target."""

_STEEPNESS = 5.0
"""Factor of the excess loss inside log1p: below about 1/5 the reward falls linearly with it, above
logarithmically. A better choice of filters then gains about the same at any size between 20 % and 90 %, and
no target dominates the training."""


@dataclass(frozen=True)
class TargetReward:
    """Reward a low loss at a target size.

    The reward is minus the logarithm of the excess loss, minus a price for size above the target. The loss
    separates candidates whose accuracies are equal on a few hundred images. A candidate slightly below the
    target is compensated for its smaller size, so that random variation of the size adds no noise to the
    reward. There is no compensation beyond that band.

    Args:
        target: Target size ratio, pruned / dense, in (0, 1].
        size: The cost that has to meet the target.
        overshoot_price: Reward lost per unit of size ratio above the target, at least 0 and finite.

    Raises:
        ValueError: If ``target`` is outside (0, 1], the price is negative or infinite, or the size is
            unknown.
    """

    target: float = 0.5
    size: Size = "macs"
    overshoot_price: float = OVERSHOOT_PRICE

    def __post_init__(self) -> None:
        check_size(self.size)
        if not (is_number(self.target) and 0 < self.target <= 1):
            raise ValueError(f"the target is {self.target!r}; it has to be above 0 and at most 1")
        if not (is_number(self.overshoot_price) and 0 <= self.overshoot_price < math.inf):
            raise ValueError(
                f"the overshoot price is {self.overshoot_price!r}; it has to be at least 0, and finite"
            )

    @property
    def drop_bound(self) -> None:
        """Always None, as this reward has no bound on the accuracy drop."""
        return

    def __call__(self, outcome: Outcome) -> float:
        """Subtract the cost of the excess loss and of the size above the target."""
        overshoot = outcome.ratio(self.size) - self.target
        excess = _STEEPNESS * outcome.excess_loss
        loss_term = math.log1p(excess) if excess > 0 else excess
        price = self.overshoot_price if overshoot > 0 else min(self.overshoot_price, _EXCHANGE)
        return -loss_term - price * max(overshoot, -_BAND)
