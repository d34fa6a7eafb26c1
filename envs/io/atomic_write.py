"""Write files atomically: they are complete or absent."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def write_atomically(path: Path, write: Callable[[Path], T]) -> T:
    """Let ``write`` create a temporary file beside ``path``, then rename it to ``path`` in one step.

    The file gets the permissions of any new file of the user (the umask), whatever ``write`` gave it:
    safetensors makes files that only their owner may read.

    Returns:
        The result of ``write``.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        result = write(temporary)
        temporary.chmod(mode)
        temporary.replace(path)
        return result
    finally:
        temporary.unlink(missing_ok=True)
