"""What every reward offers."""

from typing import Protocol

from .outcome import Outcome, Size

_ROUNDING = 1e-12


class Reward(Protocol):
    """Judge an outcome: pure, cheap, higher is better."""

    @property
    def size(self) -> Size:
        """Which cost counts."""

    @property
    def target(self) -> float | None:
        """Wanted size ratio in (0, 1], None where no size is wanted."""

    @property
    def drop_bound(self) -> float | None:
        """Largest tolerated accuracy drop in percentage points, None where none is set."""

    def __call__(self, outcome: Outcome) -> float:
        """Give the reward of a candidate."""


def is_met(wish: Reward, outcome: Outcome) -> bool:
    """Say whether a candidate is as small as is wanted, and as accurate."""
    small = wish.target is None or outcome.ratio(wish.size) <= wish.target + _ROUNDING
    return small and (wish.drop_bound is None or outcome.accuracy_drop <= wish.drop_bound)
