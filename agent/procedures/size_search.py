"""The search of the smallest size that is within a bound, by a few expensive checks and many cheap forecasts.

Sizes are numbered from 0, the smallest, to the dense one. Each is measured by an *excess*, percentage points:
how much it misses the bound by; at most 0 is within it. A forecast follows a short recovery. The first check
is of a size that is within the bound after that, which is cautious, as a full recovery gains more. How much
more is measured on the network itself: excesses of other sizes are foretold by the line through the last check
whose slope is its drop after the full recovery, relative to that after the short one.
"""

from collections.abc import Callable
from dataclasses import dataclass

_LEAST_SHARE = 0.25
"""Smallest slope. Small drops are mostly noise, and a slope of 0 would foretell that any size is within the
bound. On digits a fifth of a recovery left four to twenty times the drop of the whole one."""


@dataclass(frozen=True)
class Drop:
    """The accuracy drop of a size.

    Args:
        drop: Accuracy drop, percentage points.
        excess: Points by which the size misses the bound; at most 0 if it is within.
    """

    drop: float
    excess: float


def smallest_within(
    sizes: int, forecast: Callable[[int], Drop], check: Callable[[int], Drop], checks: int
) -> dict[int, Drop]:
    """Check the smallest size that is foretold to be within the bound, and sizes near it.

    A size within the bound is followed by a smaller one, another by a larger one, until no size between the
    largest that was not and the smallest that was is foretold to be within.

    Args:
        sizes: Number of sizes below the dense one, at least 1; the largest is the least cut.
        forecast: Measures a size after a short recovery; called again for the same size.
        check: Measures a size after its full recovery, on images unseen by all; called once for a size.
        checks: Number of checks at most, at least 1. If none of the others is within the bound, the last is
            spent on the least cut.

    Returns:
        The sizes that were checked, in that order.
    """
    checked: dict[int, Drop] = {}
    outside, within = -1, sizes
    foretell = _foretelling(forecast)
    while len(checked) < checks:
        size = _first(outside, within, foretell)
        if within == sizes and checked and len(checked) == checks - 1:
            size = sizes  # nothing has been within so far
        if size == within:
            if within < sizes or outside == sizes - 1:
                break
            size = sizes - 1
        found = checked[size] = check(size)
        outside, within = (outside, size) if found.excess <= 0 else (size, within)
        foretell = _foretelling(forecast, size, found)
    return checked


def _foretelling(
    forecast: Callable[[int], Drop], size: int | None = None, found: Drop | None = None
) -> Callable[[int], float]:
    """Return a function that foretells the excess of a size from the last check, if there was one."""
    if size is None or found is None:
        return lambda other: forecast(other).excess
    short = forecast(size).drop
    share = min(1.0, max(_LEAST_SHARE, found.drop / short if short > 0 else 1.0))
    return lambda other: found.excess + share * (forecast(other).drop - short)


def _first(outside: int, within: int, foretell: Callable[[int], float]) -> int:
    """Bisect for the smallest size above ``outside`` that is foretold to hold; ``within`` if none below it is."""
    while within - outside > 1:
        middle = (outside + within) // 2
        outside, within = (outside, middle) if foretell(middle) <= 0 else (middle, within)
    return within
