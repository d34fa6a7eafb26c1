"""The README's examples, to be run as they stand."""

from __future__ import annotations

import ast
import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def snippet(marker: str) -> str:
    """Give the block of Python in the README that contains a marker."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = (block for block in blocks if marker in block)
    ast.parse(found)
    return found
