"""Answers to names that are not known."""

import difflib
from collections.abc import Iterable


def unknown_name(kind: str, given: str, known: Iterable[str]) -> str:
    """Say in one sentence what was given, what was probably meant, and what is allowed.

    Args:
        kind: What the name is of, such as ``method``.
        given: The unknown name.
        known: All names.
    """
    names = list(known)
    near = difflib.get_close_matches(given, names, n=1)
    meant = f", did you mean {near[0]!r}?" if near else ""
    return f"there is no {kind} {given!r}{meant}; give {', '.join(names)}"
