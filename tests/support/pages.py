"""The pages that people read, and their examples.

A block of Python or of a console is run where it stands, unless a comment before it says why not:

* ``<!-- not run: needs CIFAR-10 -->``: the block is only parsed.
* ``<!-- file: mypackage/task.py -->``: the block is written to a file, for the blocks after it.
* ``<!-- output -->``: a block of text that the commands before it print; ``...`` stands for lines left out.
"""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("[!_]*/**/*.md")), *sorted((ROOT / "docs").glob("*.md")))

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>not run|file): (?P<text>[^\n]+?) -->\n+)?"
    r"(?:^```(?P<language>python|console|yaml)|^<!-- output -->\n```text)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A block of code on a page."""

    page: Path
    line: int
    language: str
    code: str
    not_run: str | None = None
    """The reason why it is not run; None if it is run."""
    file: str | None = None
    """The file that it is."""

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a console block."""
        lines = self.code.replace("\\\n", " ").splitlines() if self.language == "console" else []
        chains = (re.split(r"&&|;", line[2:]) for line in lines if line.startswith("$ "))
        words = (shlex.split(command, comments=True) for command in itertools.chain(*chains))
        return [[each for word in command for each in _braces(word)] for command in words if command]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def _braces(word: str) -> Iterator[str]:
    """Expand braces as a shell does: ``{l1,l2}-{uniform,global}``."""
    if found := re.search(r"\{([^{}]*,[^{}]*)\}", word):
        for choice in found[1].split(","):
            yield from _braces(word[: found.start()] + choice + word[found.end() :])
    else:
        yield word


def blocks(page: Path) -> list[Block]:
    """List the blocks of Python, of consoles and of options on a page."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        mark, reason = match["mark"], match["text"]
        found.append(
            Block(
                page,
                line,
                match["language"] or "text",
                match["code"],
                not_run=reason if mark == "not run" else None,
                file=reason if mark == "file" else None,
            )
        )
    return found


def prose(page: Path) -> str:
    """Give a page without its blocks."""
    return re.sub(r"^(`{3,}).*?^\1$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def snippet(marker: str) -> str:
    """Give the one block of Python that contains a marker."""
    every = (block for page in PAGES for block in blocks(page) if block.language == "python")
    (found,) = (block.code for block in every if marker in block.code)
    ast.parse(found)
    return found
