"""Read files from untrusted sources: sizes are checked before a file is parsed.

JSON, YAML and safetensors hold no code. The remaining risks are damaged files, and files made to exhaust
memory.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

LARGEST_TEXT = 4 * 2**20
"""Largest allowed text file, bytes: enough for the plan of a network with half a million filters."""

_MAX_DEPTH = 64
"""Allowed nesting of objects and lists. The card of an agent contains that of the agent it started from."""


_STRINGS_AND_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """Read a text file of limited size.

    Args:
        path: Path of the file.
        largest: Allowed size, bytes.

    Raises:
        ValueError: If the file is larger, or not UTF-8.
    """
    if (size := path.stat().st_size) > largest:
        raise ValueError(f"{path} has {size:,} bytes; allowed are {largest:,}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def parse_json(text: str) -> Any:
    """Parse JSON strictly.

    Raises:
        ValueError: If it is not JSON, is nested too deep, repeats a key, or holds NaN or Infinity.
    """
    depth = 0
    for match in _STRINGS_AND_BRACKETS.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > _MAX_DEPTH:
            raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
    return json.loads(text, object_pairs_hook=_object, parse_constant=_refused)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {short(max(names, key=names.count))!r} occurs twice")
    return content


def _refused(constant: str) -> None:
    raise ValueError(f"it holds {constant}, which is not a finite number")


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, a few lines of which can expand to gigabytes, and without repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        if isinstance(node, yaml.MappingNode):
            names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            if twice := [name for name, count in names.items() if count > 1]:
                raise yaml.YAMLError(f"the key {short(twice[0])!r} occurs twice; leave one of them out")
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> Any:
    """Read a small YAML file.

    Raises:
        ValueError: If the file is too large, not YAML, or repeats a key.
    """
    text = read_text(path, 2**16)
    try:
        return yaml.load(text, _PlainLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"{path} is not YAML that can be read: {' '.join(str(error).split())}") from error


def short(text: str, most: int = 80) -> str:
    """Shorten an untrusted text for a message: no control characters.

    Args:
        text: The text.
        most: Characters that stay, at least 4.
    """
    printable = "".join(c if c.isprintable() else "?" for c in text[: most + 1])
    return printable if len(printable) <= most else printable[: most - 3] + "..."


def first_line(error: BaseException, most: int = 80) -> str:
    """Return the first line of an error's message that is not blank, or its type if there is none.

    Args:
        error: The error.
        most: Characters that stay, at least 4.
    """
    lines = (line.strip() for line in str(error).splitlines())
    return short(next(filter(None, lines), ""), most) or type(error).__name__


def with_type(error: BaseException) -> str:
    """Return the type and the first line of an error of the user's code: ``KeyError: 'a'``."""
    return f"{type(error).__name__}: {first_line(error)}" if str(error).strip() else type(error).__name__
