"""What every reward offers."""

from typing import Protocol

from .outcome import Outcome, Size


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
