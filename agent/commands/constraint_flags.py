"""Constraints as options of the command line."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import tyro

from ...envs.surgery.constraints import Constraints
from .shares import parse_share

T = TypeVar("T", int, float)

Repeated = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
"""An option with one value that may be given several times; it does not consume the arguments after it."""


@dataclass(frozen=True)
class ConstraintFlags:
    """Constraints on the cut; each may be given several times, and the last match of a layer counts."""

    round_to: Repeated = ()
    """Multiple to which numbers of kept filters are rounded where possible, at least 1: 8 for all layers, or
    PATTERN=8 for some."""
    protect: Repeated = ()
    """Pattern of the names of layers that keep all their filters, such as conv1 or 'layer1.*'."""
    max_sparsity: Repeated = ()
    """Largest share of a layer's filters that is removed, in (0, 1): 0.8 for all layers, or PATTERN=0.8 for
    some."""

    def parse(self) -> Constraints:
        """Parse the options.

        Raises:
            ValueError: If a value is not a number, or out of its range.
        """
        return Constraints(
            round_to=_by_pattern("--round-to", self.round_to, int, "8"),
            protect=self.protect,
            max_sparsity=_by_pattern("--max-sparsity", self.max_sparsity, parse_share, "0.8"),
        )


def _by_pattern(flag: str, words: tuple[str, ...], convert: Callable[[str], T], example: str) -> dict[str, T]:
    """Split values into pattern and number; a number alone is for all layers."""
    numbers: dict[str, T] = {}
    for word in words:
        pattern, _, value = word.rpartition("=")
        numbers.pop(pattern or "*", None)  # the last one counts, so it has to be at the end
        try:
            numbers[pattern or "*"] = convert(value)
        except ValueError as error:
            raise ValueError(
                f"{flag} is {word!r}; give a number such as {example}, or PATTERN={example}"
            ) from error
    return numbers
