"""New folders, which are removed again if nothing is written to them."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...envs.io.atomic_write import check_writable
from ...envs.io.run_files import CONFIG
from .locks import LOCK

_HALF_WRITTEN = re.compile(r"\..+\.\d+\.tmp")
"""Names of temporary files of :func:`.atomic_write.write_atomically`."""


def check_new_folder(path: Path) -> None:
    """Check that a folder is new or empty and can be written; a killed process's first files do not count.

    Raises:
        ValueError: If the folder is not empty, is a file, cannot be written, or its disk is full.
    """
    if path.is_dir() and not all(_is_leftover(entry) for entry in path.iterdir()):
        raise ValueError(f"{path} exists and is not empty; give a new folder as out, nothing is overwritten")
    check_writable(path, "give another folder as out")


def _is_leftover(path: Path) -> bool:
    return path.name == LOCK or (
        path.name.startswith(f".{CONFIG}.") and bool(_HALF_WRITTEN.fullmatch(path.name))
    )


def half_written(folder: Path) -> list[Path]:
    """List the temporary files of a process that was killed while it wrote them."""
    return [path for path in folder.rglob(".*.tmp") if _HALF_WRITTEN.fullmatch(path.name) and path.is_file()]


def make_folder(path: Path) -> list[Path]:
    """Create a folder and its missing parents.

    Returns:
        The created folders, the innermost first, for :func:`remove_empty`.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        remove_empty(missing)
        raise
    return missing


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove the folders that are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """Create a folder; on an error it is removed again if it is empty."""
    made = make_folder(path)
    try:
        yield
    except BaseException:
        remove_empty(made)
        raise
