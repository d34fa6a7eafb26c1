"""The interface of rewards."""

from typing import Protocol

from .outcome import Outcome, Size

_ROUNDING = 1e-12


class Reward(Protocol):
    """Score an outcome, higher is better. A reward is pure and cheap to call."""

    @property
    def size(self) -> Size:
        """The cost that counts as the network's size."""

    @property
    def target(self) -> float | None:
        """Target size ratio, pruned / dense, in (0, 1]; None if the reward has no target."""

    @property
    def drop_bound(self) -> float | None:
        """Largest tolerated accuracy drop, percentage points; None if the reward has no bound."""

    def __call__(self, outcome: Outcome) -> float:
        """Return the reward of a candidate."""


def is_met(wish: Reward, outcome: Outcome) -> bool:
    """Return whether a candidate meets the target size and the drop bound of a reward."""
    small = wish.target is None or outcome.ratio(wish.size) <= wish.target + _ROUNDING
    return small and (wish.drop_bound is None or outcome.accuracy_drop <= wish.drop_bound)
