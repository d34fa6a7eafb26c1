"""Folders that are made for something, and gone again if nothing comes of it."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...envs.io.run_files import CONFIG
from .locks import LOCK

_HALF_WRITTEN = re.compile(r"\..+\.\d+\.tmp")
"""Names of files that :func:`.atomic_write.write_atomically` has not finished."""


def check_new_folder(path: Path) -> None:
    """Refuse a folder that holds something, but for what a process left that was killed before it began.

    Raises:
        ValueError: If it does, or is a file.
    """
    if path.is_file() or (path.is_dir() and not all(_is_leftover(entry) for entry in path.iterdir())):
        raise ValueError(f"{path} exists and is not empty; give --out a new folder, nothing is overwritten")


def _is_leftover(path: Path) -> bool:
    return path.name == LOCK or (
        path.name.startswith(f".{CONFIG}.") and bool(_HALF_WRITTEN.fullmatch(path.name))
    )


def half_written(folder: Path) -> list[Path]:
    """List the files that a process was writing when it was killed."""
    return [path for path in folder.rglob(".*.tmp") if _HALF_WRITTEN.fullmatch(path.name) and path.is_file()]


def make_folder(path: Path) -> list[Path]:
    """Make a folder and those above it that are not there.

    Returns:
        Those that were made, the innermost first, for :func:`remove_empty`.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        remove_empty(missing)
        raise
    return missing


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those folders that hold nothing."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """Make a folder to write to; if nothing could be written, no folder is left behind."""
    made = make_folder(path)
    try:
        yield
    except BaseException:
        remove_empty(made)
        raise
