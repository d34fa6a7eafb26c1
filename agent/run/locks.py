"""Locks that allow one process per run folder."""

from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

_NAME = ".lock"


def lock_folder(folder: Path) -> BaseFileLock:
    """Lock a folder until the lock is released or the process ends.

    Raises:
        ValueError: If another process has locked it.
    """
    lock = FileLock(folder / _NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"another process is working in {folder}; wait until it has ended") from None
    return lock


def is_locked(folder: Path) -> bool:
    """Return whether a process has locked a folder."""
    if not (folder / _NAME).is_file():
        return False
    try:
        with FileLock(folder / _NAME, timeout=0):
            return False
    except Timeout:
        return True
