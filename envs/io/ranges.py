"""Numbers that users give: refused by name where they are out of their range, or none at all."""

import math
from numbers import Integral, Real
from typing import Any

LARGEST_SEED = 2**32 - 1
"""NumPy's legacy generator, which Stable-Baselines3 seeds, takes no larger one."""


def check_whole(name: str, value: Any, least: int, most: float = math.inf) -> None:
    """Refuse what is no whole number in a range.

    Args:
        name: Of the number, for the message.
        value: The number.
        least: The smallest that is allowed.
        most: The largest that is allowed.

    Raises:
        ValueError: If it is none.
    """
    if not (isinstance(value, Integral) and least <= value <= most):  # type: ignore[operator]
        allowed = f"at least {least}" if most == math.inf else f"{least} to {most}"
        kind = "" if isinstance(value, Integral) else ", a whole number"
        raise ValueError(f"{name} is {value}; allowed is {allowed}{kind}")


def check_seed(value: Any) -> None:
    """Refuse what is no seed.

    Raises:
        ValueError: If it is none.
    """
    check_whole("seed", value, 0, LARGEST_SEED)


def check_real(name: str, value: Any, low: float, high: float = math.inf, *, ends: bool = True) -> None:
    """Refuse what is no finite number in a range.

    Args:
        name: Of the number, for the message.
        value: The number.
        low: One end of the range.
        high: The other.
        ends: Whether they are allowed themselves.

    Raises:
        ValueError: If it is none.
    """
    is_number = isinstance(value, Real) and math.isfinite(value)
    if not (is_number and (low <= value <= high if ends else low < value < high)):
        if high == math.inf:
            allowed = f"at least {low:g}" if ends else f"above {low:g}"
        else:
            allowed = f"{low:g} to {high:g}" if ends else f"above {low:g} and below {high:g}"
        raise ValueError(f"{name} is {value}; allowed is {allowed}{'' if is_number else ', a finite number'}")
