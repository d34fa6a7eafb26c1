"""The last good state of something that takes long, and the one before it.

For going on after an interruption, on the machine that wrote it, and for nothing else: what is shared is
safetensors and JSON.
"""

import hashlib
import io
import time
from pathlib import Path
from typing import Any

import torch

from ..io.atomic_write import write_atomically

SECONDS = 30.0
"""At most about this much work is lost when a process is killed."""

_DIGEST = hashlib.sha256().digest_size


class Stopped(KeyboardInterrupt):
    """Someone wants the process to end; raised only where everything is in a state to go on from."""


class Checkpoint:
    """A file that always holds a whole state, or none.

    A new state is written aside and renamed; the one before it stays beside it, for the case that the disk
    damages the new one. Nothing in it can run code when it is loaded.

    Args:
        path: Of the file; its folder is made with the first state.
        seconds: Between two states that :meth:`due` asks for.
    """

    def __init__(self, path: Path, *, seconds: float = SECONDS) -> None:
        self.path = path
        self._seconds = seconds
        self._last = time.monotonic()

    @property
    def before(self) -> Path:
        """Give the place of the state before the last one."""
        return self.path.with_name(f"{self.path.name}.before")

    @property
    def due(self) -> bool:
        """Whether so much has been done since the last state that it would hurt to lose it."""
        return time.monotonic() - self._last >= self._seconds

    def save(self, state: dict[str, Any]) -> None:
        """Write a state of tensors, numbers, texts, lists and dictionaries.

        Raises:
            OSError: If it cannot be written; the last state is still there.
        """
        content = io.BytesIO()
        torch.save(state, content)
        payload = content.getbuffer()
        self.path.parent.mkdir(parents=True, exist_ok=True)

        def write(aside: Path) -> None:
            with aside.open("wb") as file:
                file.write(hashlib.sha256(payload).digest())
                file.write(payload)
            if self.path.is_file():
                self.path.replace(self.before)

        write_atomically(self.path, write)
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Give the last state that is whole, or None."""
        return next((state for path in (self.path, self.before) if (state := _read(path)) is not None), None)


def _read(path: Path) -> dict[str, Any] | None:
    """Read a file of :meth:`Checkpoint.save`; None where it is missing or damaged."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    digest, payload = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return state
