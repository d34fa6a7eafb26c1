"""A reward for a wanted size."""

from dataclasses import dataclass

from .outcome import Outcome, Size, check_size

OVERSHOOT_PRICE = 8.0
"""Reward lost per unit of size ratio above the target: 1 % of the dense size costs as much as 8 % of what the
network knows, more than any network tried gains from it. A price four times as high makes an agent flee below
the target."""


@dataclass(frozen=True)
class TargetReward:
    """Meet a size, then keep what the network knows.

    The reward is the excess loss with a minus, less a price for every bit of size above the target. Nothing
    is paid for being smaller, so candidates that meet the target are ranked by their loss alone: on a few
    hundred images it tells candidates apart whose accuracies are the same.

    Args:
        target: Wanted size ratio, pruned / dense, in (0, 1].
        size: Which cost has to meet the target.
        overshoot_price: Reward lost per unit of size ratio above the target, >= 0.

    Raises:
        ValueError: If ``target`` is outside (0, 1], the price is negative, or nobody knows the size.
    """

    target: float = 0.5
    size: Size = "macs"
    overshoot_price: float = OVERSHOOT_PRICE

    def __post_init__(self) -> None:
        check_size(self.size)
        if not 0 < self.target <= 1:
            raise ValueError(f"the target is {self.target}; it has to be above 0 and at most 1")
        if not self.overshoot_price >= 0:
            raise ValueError(f"the overshoot price is {self.overshoot_price}; it has to be at least 0")

    @property
    def drop_bound(self) -> None:
        """No bound: the size is met whatever it costs."""
        return

    def __call__(self, outcome: Outcome) -> float:
        """Charge the excess loss and the size above the target."""
        overshoot = max(0.0, outcome.ratio(self.size) - self.target)
        return -outcome.excess_loss - self.overshoot_price * overshoot
