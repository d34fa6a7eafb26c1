"""A reward for a wanted size."""

import math
from dataclasses import dataclass

from .outcome import Outcome, Size, check_size

_EXCHANGE = 4.0
"""What a unit of size ratio is worth to a network: between 20 % and 90 % of the size, 1 % more gains it about
0.04."""

_BAND = 0.03
"""How far below the target that is paid back. Paid without end, an agent is drawn to removing everything."""

OVERSHOOT_PRICE = 2 * _EXCHANGE
"""Reward lost per unit of size ratio above the target: twice what it gains. A much higher price makes an
agent flee below the target."""

_STEEPNESS = 5.0
"""Excess loss counts in full where it is small, and by its ratio above 1/5: between 20 % and 90 % of the size
the same care in choosing filters then gains about the same, and no size drowns the others."""


@dataclass(frozen=True)
class TargetReward:
    """Meet a size, then keep what the network knows.

    The reward is the logarithm of the excess loss with a minus, less a price for every bit of size above the
    target. The loss tells candidates apart whose accuracies are the same on a few hundred images. A candidate
    that is a little smaller is paid what that costs it, so that chance in the size is none in the reward; for
    being much smaller nothing is paid.

    Args:
        target: Wanted size ratio, pruned / dense, in (0, 1].
        size: Which cost has to meet the target.
        overshoot_price: Reward lost per unit of size ratio above the target, >= 0 and finite.

    Raises:
        ValueError: If ``target`` is outside (0, 1], the price is negative or infinite, or nobody knows the
            size.
    """

    target: float = 0.5
    size: Size = "macs"
    overshoot_price: float = OVERSHOOT_PRICE

    def __post_init__(self) -> None:
        check_size(self.size)
        if not 0 < self.target <= 1:
            raise ValueError(f"the target is {self.target}; it has to be above 0 and at most 1")
        if not 0 <= self.overshoot_price < math.inf:
            raise ValueError(
                f"the overshoot price is {self.overshoot_price}; it has to be at least 0, and finite"
            )

    @property
    def drop_bound(self) -> None:
        """No bound: the size is met whatever it costs."""
        return

    def __call__(self, outcome: Outcome) -> float:
        """Charge the excess loss and the size above the target."""
        above = outcome.ratio(self.size) - self.target
        excess = _STEEPNESS * outcome.excess_loss
        lost = math.log1p(excess) if excess > 0 else excess
        price = self.overshoot_price if above > 0 else min(self.overshoot_price, _EXCHANGE)
        return -lost - price * max(above, -_BAND)
