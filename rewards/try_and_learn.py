"""The reward of Huang et al. 2018."""

import math
from dataclasses import dataclass

from .outcome import Outcome, Size, check_size, is_number

_SMALLEST_RATIO = 1e-6
"""Smaller ratios count as this one, because the logarithm of 0 is infinite."""


@dataclass(frozen=True)
class TryAndLearnReward:
    """Reward removed filters while the accuracy drop stays within a bound.

    The reward is the product of two terms (Huang et al. 2018, arXiv 1801.07365, eq. 3-5, there per layer).
    The accuracy term is 1 at no drop, 0 at the bound and negative beyond it. The efficiency term is the
    logarithm of the compression.

    The paper's sizes have ratios of at most 1, but a latency ratio can be above 1. There the efficiency term
    is negative, and the product would reward a larger accuracy drop. The reward of a candidate that is slower
    than the dense network is instead minus the logarithm of its ratio, times 1 plus the drop's share of the
    bound.

    Args:
        drop_bound: Largest tolerated accuracy drop, percentage points, in (0, 100].
        size: The cost that the efficiency term counts.

    Raises:
        ValueError: If ``drop_bound`` is outside (0, 100], or the size is unknown.
    """

    drop_bound: float = 2.0
    size: Size = "macs"

    def __post_init__(self) -> None:
        check_size(self.size)
        if not (is_number(self.drop_bound) and 0 < self.drop_bound <= 100):
            raise ValueError(
                f"the drop bound is {self.drop_bound!r}; it has to be above 0 and at most 100 points"
            )

    @property
    def target(self) -> None:
        """Always None, as this reward has no target size."""
        return

    def __call__(self, outcome: Outcome) -> float:
        """Multiply the unused share of the bound by the logarithm of the compression."""
        ratio = max(outcome.ratio(self.size), _SMALLEST_RATIO)
        if ratio > 1:
            return -math.log(ratio) * (1 + max(outcome.accuracy_drop, 0.0) / self.drop_bound)
        accuracy_term = (self.drop_bound - outcome.accuracy_drop) / self.drop_bound
        return accuracy_term * math.log(1.0 / ratio)
