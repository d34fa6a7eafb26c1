"""Locks that keep a run folder to one process."""

import contextlib
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

LOCK = ".lock"


def lock_folder(folder: Path) -> BaseFileLock:
    """Lock a folder until :func:`unlock_folder` or the end of the process.

    Raises:
        ValueError: If another process holds the lock.
        OSError: If the folder cannot be written to.
    """
    path = folder / LOCK
    while True:
        path.touch()
        lock, inode = FileLock(path), _inode(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"another process is working in {folder}; wait until it has ended") from None
        # A process that just released the lock may have removed the file; the lock is then on a deleted file.
        if inode is not None and _inode(path) == inode:
            return lock
        lock.release()


def unlock_folder(lock: BaseFileLock) -> None:
    """Unlock a folder, after removing the file while no other process can hold it."""
    with contextlib.suppress(OSError):  # Windows does not remove open files
        Path(lock.lock_file).unlink()
    lock.release()


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def is_locked(folder: Path) -> bool:
    """Return whether a process holds the lock of a folder."""
    if not (folder / LOCK).is_file():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
