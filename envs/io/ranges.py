"""Checks that users' numbers are in their ranges."""

import math
from numbers import Integral, Real
from typing import Any

LARGEST_SEED = 2**32 - 1
"""The largest seed of NumPy's legacy generator, which Stable-Baselines3 seeds."""


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_whole(name: str, value: Any, low: int, high: float = math.inf) -> None:
    """Check that a value is a whole number in a range.

    Args:
        name: Name of the value, for the message.
        value: The value.
        low: Smallest allowed number.
        high: Largest allowed number.

    Raises:
        ValueError: If it is not.
    """
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)  # in Python, True is a number
    if not (is_whole and low <= value <= high):
        allowed = f"at least {low}" if high == math.inf else f"{low} to {high}"
        kind = "" if is_whole else ", a whole number"
        raise ValueError(f"{name} is {value}; allowed is {allowed}{kind}")


def check_seed(value: Any) -> None:
    """Check that a value is a seed: a whole number from 0 to :data:`LARGEST_SEED`.

    Raises:
        ValueError: If it is not.
    """
    check_whole("seed", value, 0, LARGEST_SEED)


def check_real(name: str, value: Any, low: float, high: float = math.inf, *, ends: bool = True) -> None:
    """Check that a value is a finite number in a range.

    Args:
        name: Name of the value, for the message.
        value: The value.
        low: Lower end of the range.
        high: Upper end of the range.
        ends: Whether the ends themselves are allowed.

    Raises:
        ValueError: If it is not.
    """
    is_finite = is_number(value)
    if not (is_finite and (low <= value <= high if ends else low < value < high)):
        if high == math.inf:
            allowed = f"at least {low:g}" if ends else f"above {low:g}"
        else:
            allowed = f"{low:g} to {high:g}" if ends else f"above {low:g} and below {high:g}"
        raise ValueError(f"{name} is {value}; allowed is {allowed}{'' if is_finite else ', a finite number'}")
