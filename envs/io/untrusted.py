"""Read what others wrote: sizes are looked at before anything is made of a file.

JSON, YAML and safetensors hold no code. What is left are files that are damaged, or made to fill the memory.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

LARGEST_TEXT = 4 * 2**20
"""Bytes of a text: the plan of a network with half a million filters."""

_DEEPEST = 64
"""Objects and lists inside each other; an agent that went on from another one is one deeper than that."""


_STRINGS_AND_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """Read a text of limited size.

    Raises:
        ValueError: If it is larger, or not UTF-8.
    """
    if (size := path.stat().st_size) > largest:
        raise ValueError(f"{path} has {size:,} bytes; allowed are {largest:,}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def parse_json(text: str) -> Any:
    """Parse JSON that any reader of JSON would read alike.

    Raises:
        ValueError: If it is not JSON, is nested too deep, names a thing twice, or holds what is no number.
    """
    depth = 0
    for match in _STRINGS_AND_BRACKETS.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
    return json.loads(text, object_pairs_hook=_object, parse_constant=_refused)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{short(max(names, key=names.count))!r} is there twice")
    return made


def _refused(constant: str) -> None:
    raise ValueError(f"it holds {constant}, which is no number")


class _PlainLoader(yaml.SafeLoader):
    """YAML without references: a few lines of them can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("references are not allowed")
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> Any:
    """Read a small YAML file.

    Raises:
        ValueError: If it is too large or not YAML.
    """
    text = read_text(path, 2**16)
    try:
        return yaml.load(text, _PlainLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"{path} is not YAML that can be read: {' '.join(str(error).split())}") from error


def short(text: str) -> str:
    """Make a text that others wrote fit for a message: no control characters, not long."""
    printable = "".join(c if c.isprintable() else "?" for c in text[:81])
    return printable if len(printable) <= 80 else printable[:77] + "..."


def first_line(error: BaseException) -> str:
    """Give the first line of an error, or its kind where it says nothing."""
    return short((str(error).splitlines() or [""])[0]) or type(error).__name__
