"""Short lists of module names: names that differ in one component are joined, as in ``blocks.{0-5}.conv``."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence


def abbreviated(names: Iterable[str], most: int | None = None) -> str:
    """Abbreviate a list of names by joining those that differ in one component, repeatedly.

    Args:
        names: Dotted module names.
        most: How many entries to give; then follows how many more there are. None gives all.
    """
    rows = [tuple(name.split(".")) for name in dict.fromkeys(names)]
    longest = max(map(len, rows), default=0)
    for place in range(longest - 1, -1, -1):
        groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for row in rows:  # with an empty component, so that only rows of equal length match
            key = (*row[:place], "", *row[place + 1 :]) if place < len(row) else row
            groups[key].append(row[place] if place < len(row) else "")
        rows = []
        for key, values in groups.items():
            braced = [_braced(values)]
            if len(key) == 1 and braced[0].startswith("{"):  # whole names are clearer than {conv1,fc}
                braced = values
            rows += [(*key[:place], v, *key[place + 1 :]) for v in braced] if place < len(key) else [key]
    entries = [".".join(row) for row in rows]
    if most is not None and len(entries) > most:
        entries[most:] = [f"and {len(entries) - most} more"]
    return ", ".join(entries)


def _braced(values: Sequence[str]) -> str:
    """Join alternatives in braces after their common prefix: ``branch{1,2}``."""
    if len(values) == 1:
        return values[0]
    split = [re.fullmatch(r"(.*?)(0|[1-9]\d*)", value) for value in values]
    prefixes = {match[1] for match in split if match}
    if None in split or len(prefixes) > 1 or "}" in "".join(values):
        return "{" + ",".join(values) + "}"
    numbers = sorted(int(match[2]) for match in split if match)
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{prefixes.pop()}{{{numbers[0]}-{numbers[-1]}}}"
    return prefixes.pop() + "{" + ",".join(map(str, numbers)) + "}"
