"""Shares and percentages as options."""

from collections.abc import Callable
from typing import Annotated

from tyro.constructors import PrimitiveConstructorSpec


def parse_share(word: str) -> float:
    """Parse a share such as ``0.5`` or ``50%``.

    Raises:
        ValueError: If it is neither a number nor a percentage.
    """
    return float(word.removesuffix("%")) / 100 if word.endswith("%") else float(word)


def parse_percentage(word: str) -> float:
    """Parse percentage points such as ``2`` or ``2%``.

    Raises:
        ValueError: If it is not a number, with or without a percent sign.
    """
    return float(word.removesuffix("%"))


def _option(parse: Callable[[str], float], metavar: str) -> PrimitiveConstructorSpec[float]:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: parse(words[0]),
        is_instance=lambda value: isinstance(value, (int, float)),
        str_from_instance=lambda value: [f"{value:g}"],
    )


Share = Annotated[float, _option(parse_share, "RATIO"), "a number such as 0.5 or 50%"]
"""A share: ``0.5`` and ``50%`` are the same."""

Percentage = Annotated[float, _option(parse_percentage, "PERCENT"), "a number of percentage points such as 2"]
"""Percentage points: ``2`` and ``2%`` are the same."""
