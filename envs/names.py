"""Answers to names that are not known."""

import difflib
from collections.abc import Iterable


def nearest(given: str, known: Iterable[str]) -> str:
    """Ask whether the nearest known name was meant, as the rest of a sentence; empty where none is near."""
    near = difflib.get_close_matches(given, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def unknown_name(kind: str, given: str, known: Iterable[str]) -> str:
    """Say in one sentence what was given, what was probably meant, and what is allowed.

    Args:
        kind: What the name is of, such as ``method``.
        given: The unknown name.
        known: All names.
    """
    names = list(known)
    return f"there is no {kind} {given!r}{nearest(given, names)}; give {', '.join(names)}"
