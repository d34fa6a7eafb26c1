"""Checkpoints of long computations: the last state and the previous one.

They serve only to resume after an interruption, on the machine that wrote them. Files to be shared are
safetensors and JSON.
"""

import hashlib
import io
import time
from pathlib import Path
from typing import Any

import torch

from ..io.atomic_write import write_atomically
from ..modules.ranks import first_decides, is_first

SECONDS = 30.0
"""Default interval between checkpoints, seconds: about the most work lost when a process is killed."""

_DIGEST = hashlib.sha256().digest_size


class Stopped(KeyboardInterrupt):
    """Signal that the process was asked to end; raised only where the computation can be resumed."""


class Checkpoint:
    """Save states to a file that is always complete or absent.

    A new state is written to a temporary file and renamed. The previous state stays beside it, in case the
    disk damages the new one. Loading a checkpoint never runs code from it. Of several ranks the first alone
    saves, and all load what it reads.

    Args:
        path: Path of the file; :meth:`save` makes its folder.
        seconds: Time after a save until :attr:`due` is true again, seconds.
    """

    def __init__(self, path: Path, *, seconds: float = SECONDS) -> None:
        self.path = path
        self._seconds = seconds
        self._last = time.monotonic()

    @property
    def previous(self) -> Path:
        """Path of the previous state."""
        return self.path.with_name(f"{self.path.name}.before")

    @property
    def due(self) -> bool:
        """Whether enough time has passed since the last save; never on a rank that does not save."""
        return is_first() and time.monotonic() - self._last >= self._seconds

    def save(self, state: dict[str, Any]) -> None:
        """Write a state of tensors, numbers, strings, lists and dictionaries.

        Raises:
            OSError: If it cannot be written; the last state remains.
        """
        if not is_first():
            return
        content = io.BytesIO()
        torch.save(state, content)
        payload = content.getbuffer()
        self.path.parent.mkdir(parents=True, exist_ok=True)

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                file.write(hashlib.sha256(payload).digest())
                file.write(payload)
            if self.path.is_file():
                self.path.replace(self.previous)

        write_atomically(self.path, write)
        self._last = time.monotonic()

    def discard(self) -> None:
        """Delete both states, which nobody needs any more."""
        if is_first():
            for path in (self.path, self.previous):
                path.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """Return the last undamaged state, or None; the same on every rank."""
        return first_decides(self._last_state)

    def _last_state(self) -> dict[str, Any] | None:
        return next(
            (state for path in (self.path, self.previous) if (state := _read(path)) is not None), None
        )


def _read(path: Path) -> dict[str, Any] | None:
    """Read a file that :meth:`Checkpoint.save` wrote; None if it is missing or damaged."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    digest, payload = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return state
