"""Write files atomically: they are complete or absent."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


_LEAST_SPACE = 2**20
"""Bytes that have to be free on a disk: those of a run without its weights."""


def check_writable(folder: Path, remedy: str) -> None:
    """Check that files can be written to a folder, or to the nearest one above it that exists.

    Args:
        folder: Path of the folder.
        remedy: What the user can do, for the message.

    Raises:
        ValueError: If they cannot: it is a file or below one, the user may not write there, or the disk is
            full.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(bytes(_LEAST_SPACE))
    except OSError as error:
        cause = error.strerror if existing.is_dir() else f"{existing} is a file"
        raise ValueError(f"{folder} cannot be written to ({cause}); {remedy}") from error


def write_atomically(path: Path, write: Callable[[Path], T]) -> T:
    """Let ``write`` create a temporary file beside ``path``, then rename it to ``path`` in one step.

    The file gets the permissions of any new file of the user (the umask), whatever ``write`` gave it:
    safetensors makes files that only their owner may read.

    Returns:
        The result of ``write``.

    Raises:
        OSError: If it cannot be written, as the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        result = write(temporary)
        temporary.chmod(mode)
        temporary.replace(path)
        return result
    except OSError as error:
        raise OSError(f"{path} cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)
