"""Constraints as words of the command line."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import tyro

from ...envs.surgery.constraints import Constraints

T = TypeVar("T", int, float)

Repeated = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
"""An option that takes one word and may be given several times, so that it swallows no word after it."""


@dataclass(frozen=True)
class ConstraintFlags:
    """What a cut has to respect beside its size; each may be given several times, the last match counts."""

    round_to: Repeated = ()
    """Keep multiples of so many filters where a layer allows it: 8, or PATTERN=8 for some layers."""
    protect: Repeated = ()
    """Pattern of layers that keep all their filters, such as conv1 or 'layer1.*'."""
    max_sparsity: Repeated = ()
    """Largest share of a layer's filters that may go, in (0, 1): 0.8, or PATTERN=0.8 for some layers."""

    def parse(self) -> Constraints:
        """Read the words.

        Raises:
            ValueError: If one has no number, or one out of its range.
        """
        return Constraints(
            round_to=_by_pattern("--round-to", self.round_to, int, "8"),
            protect=self.protect,
            max_sparsity=_by_pattern("--max-sparsity", self.max_sparsity, float, "0.8"),
        )


def _by_pattern(flag: str, words: tuple[str, ...], number: Callable[[str], T], such: str) -> dict[str, T]:
    """Split words into pattern and number; a bare number is for all layers."""
    found: dict[str, T] = {}
    for word in words:
        pattern, _, value = word.rpartition("=")
        found.pop(pattern or "*", None)  # the last one counts, so it has to stand last
        try:
            found[pattern or "*"] = number(value)
        except ValueError as error:
            raise ValueError(
                f"{flag} {word} has no number; give one such as {such}, or PATTERN={such}"
            ) from error
    return found
