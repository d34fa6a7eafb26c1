"""Files that are whole or not there at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def write_atomically(path: Path, write: Callable[[Path], T]) -> T:
    """Let ``write`` fill a file beside ``path``, then rename it to ``path`` in one step.

    Returns:
        What ``write`` returned.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        result = write(aside)
        aside.replace(path)
        return result
    finally:
        aside.unlink(missing_ok=True)
