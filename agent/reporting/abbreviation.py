"""Many dotted names in few words, as a shell would write them: ``layer1.{0-2}.conv3``."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence


def abbreviated(names: Iterable[str]) -> str:
    """Join names that differ in one component, again and again; nothing is left out.

    Args:
        names: Dotted module names.
    """
    rows = [tuple(name.split(".")) for name in dict.fromkeys(names)]
    longest = max(map(len, rows), default=0)
    for place in range(longest - 1, -1, -1):
        alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for row in rows:  # the place itself is left open, so that only rows of one length meet
            key = (*row[:place], "", *row[place + 1 :]) if place < len(row) else row
            alike[key].append(row[place] if place < len(row) else "")
        rows = [
            (*key[:place], _braced(values), *key[place + 1 :]) if place < len(key) else key
            for key, values in alike.items()
        ]
    return ", ".join(".".join(row) for row in rows)


def _braced(values: Sequence[str]) -> str:
    """Write alternatives in braces, without a beginning that they share: ``branch{1,2}``."""
    if len(values) == 1:
        return values[0]
    split = [re.fullmatch(r"(.*?)(0|[1-9]\d*)", value) for value in values]
    beginnings = {match[1] for match in split if match}
    if None in split or len(beginnings) > 1 or "}" in "".join(values):
        return "{" + ",".join(values) + "}"
    numbers = sorted(int(match[2]) for match in split if match)
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{beginnings.pop()}{{{numbers[0]}-{numbers[-1]}}}"
    return beginnings.pop() + "{" + ",".join(map(str, numbers)) + "}"
