"""The reward of Huang et al. 2018."""

import math
from dataclasses import dataclass

from .outcome import Outcome, Size, check_size


@dataclass(frozen=True)
class TryAndLearnReward:
    """Pay for removed filters while the accuracy drop stays inside a bound.

    The accuracy term falls from 1 at no drop to 0 at the bound and below it beyond; the efficiency term is
    the log of the compression. Their product is the reward of Huang et al. 2018 (arXiv 1801.07365, eq. 3-5),
    there per layer.

    Args:
        drop_bound: Largest tolerated accuracy drop, percentage points, in (0, 100].
        size: Which cost the efficiency term counts.

    Raises:
        ValueError: If ``drop_bound`` is outside (0, 100], or nobody knows the size.
    """

    drop_bound: float = 2.0
    size: Size = "macs"

    def __post_init__(self) -> None:
        check_size(self.size)
        if not 0 < self.drop_bound <= 100:
            raise ValueError(
                f"the drop bound is {self.drop_bound}; it has to be above 0 and at most 100 points"
            )

    @property
    def target(self) -> None:
        """No size is wanted: as small as the bound allows."""
        return

    def __call__(self, outcome: Outcome) -> float:
        """Multiply what is left of the bound, as a share of it, with the log of the compression."""
        accuracy_term = (self.drop_bound - outcome.accuracy_drop) / self.drop_bound
        return accuracy_term * math.log(1.0 / outcome.ratio(self.size))
