"""Answers to names that are not known."""

import difflib
from collections.abc import Iterable
from itertools import takewhile


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Ask whether the nearest known name was meant, as the rest of a sentence; empty where none is near.

    Of names that are as near the one that begins like the given one for longer is nearer.
    """

    def nearness(name: str) -> tuple[float, int]:
        beginning = takewhile(lambda pair: pair[0] == pair[1], zip(name, given, strict=False))
        return difflib.SequenceMatcher(None, name, given).ratio(), len(list(beginning))

    near = difflib.get_close_matches(given, list(known))
    return f", did you mean {max(near, key=nearness)!r}?" if near else ""


def unknown_name(kind: str, given: str, known: Iterable[str]) -> str:
    """Say in one sentence what was given, what was probably meant, and what is allowed.

    Args:
        kind: What the name is of, such as ``method``.
        given: The unknown name.
        known: All names.
    """
    names = list(known)
    return f"there is no {kind} {given!r}{did_you_mean(given, names)}; give {', '.join(names)}"
