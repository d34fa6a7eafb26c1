"""Suggestions for unknown names."""

import difflib
import re
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

_MANY = 12
"""Number of names above which a message is hard to read."""

_MOST_LONGER = 3
"""Largest number of names with the same beginning that a message names."""


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """Return ", did you mean ...?" with the most similar known name, or "" if none is similar.

    Among equally similar names, the one with the longest common prefix wins. If none is similar, the one
    whose words have these initials is named, or the shortest that begin with what was given. Nothing is
    similar to what is no string, such as a keyword's number.
    """
    if not isinstance(given, str):
        return ""

    def similarity(name: str) -> tuple[float, int]:
        prefix = takewhile(lambda pair: pair[0] == pair[1], zip(name, given, strict=False))
        return difflib.SequenceMatcher(None, name, given).ratio(), len(list(prefix))

    known = list(known)
    matches = difflib.get_close_matches(given, known)
    if matches:
        return f", did you mean {max(matches, key=similarity)!r}?"
    meant = [name for name in known if len(given) > 1 and _initials(name) == given]
    if len(meant) == 1:
        return f", did you mean {meant[0]!r}?"
    longer = sorted((name for name in known if given and name.startswith(given)), key=len)[:_MOST_LONGER]
    if not longer:
        return ""
    *others, last = map(repr, longer)
    return f", did you mean {', '.join(others)}{' or ' if others else ''}{last}?"


def _initials(name: str) -> str:
    return "".join(word[0] for word in re.split(r"[-_ ]", name) if word)


def unknown_name(kind: str, given: object, known: Iterable[str]) -> str:
    """Make the message for an unknown name: what was given, what was probably meant, what is allowed.

    Where one name of many was probably meant, the many are left out.

    Args:
        kind: What is named, such as ``method``.
        given: The unknown name.
        known: All known names.
    """
    names = list(known)
    meant = did_you_mean(given, names)
    allowed = "" if meant and len(names) > _MANY else f"; give {', '.join(names)}"
    return f"there is no {kind} {given!r}{meant}{allowed}"


def looks_like_path(name: str) -> bool:
    """Return whether an unknown name was probably meant as a path.

    Args:
        name: The name. ``runs/mine`` is a path, as is a name whose parent is a folder.
    """
    if ":" in name or "/" not in name:
        return False
    return name.startswith(("./", "../", "/", "~", "runs/")) or Path(name).parent.is_dir()
