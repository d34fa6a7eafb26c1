"""A journal of measured candidates in a file.

A search restarted with the same seed needs the same candidates in the same order. Those in the journal are
not measured again. So the search soon reaches the point of interruption, and continues to the same result.

Shapes: N filters of a layer.
"""

import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..recovery.stopwatch import Stopwatch
from ..surgery.plan import Mask

_SYNC_SECONDS = 5.0
"""Interval of fsync, seconds, against a crash of the machine; a crash of the process alone loses nothing."""


_KIND = "measured in "
"""Beginning of the keys that name kinds of processors."""


class CachedMeasurement(NamedTuple):
    """The measurement of one candidate, as in :class:`secateur.envs.tasks.measuring.Measurement`."""

    accuracy: float
    loss: float


Records = tuple[dict[str, CachedMeasurement], float]
"""What a journal knows: its entries by key, and the seconds that they took."""


class Journal:
    """Record measurements of candidates in a file, one line each.

    An incomplete or damaged line ends the journal: its candidate and all later ones are measured again.

    Args:
        path: Path of the file; its folder is made with the first line.
        after: Called after each new line; may raise :class:`.checkpoint.Stopped`.
    """

    def __init__(self, path: Path | None, after: Callable[[], None] = lambda: None) -> None:
        self._path, self._after = path, after
        self._known: dict[str, CachedMeasurement] = {}
        self.measured = 0
        """Candidates that this process has recorded."""
        self._earlier, self._synced = 0.0, time.monotonic()
        if path is not None and path.is_file():
            self._read(path)
        self._clock = Stopwatch(self._earlier)

    @classmethod
    def in_memory(cls, records: Records, after: Callable[[], None] = lambda: None) -> "Journal":
        """Make a journal that writes no file: that of a rank which follows another.

        Args:
            records: What it knows.
            after: As for a journal with a file.
        """
        journal = cls(None, after)
        journal._known, journal._earlier = dict(records[0]), records[1]
        return journal

    @property
    def records(self) -> Records:
        """What the journal knows, for :meth:`in_memory`."""
        return self._known, self._earlier

    def begin(self) -> Stopwatch:
        """Start the search's clock, whose time is written into each line.

        Returns:
            The clock. It includes the seconds that earlier processes spent until their last candidate. The
            caller pauses it during work that does not belong to the search.
        """
        self._clock = Stopwatch(self._earlier)
        return self._clock

    def recall(self, scope: str, masks: Sequence[Mask]) -> CachedMeasurement | None:
        """Return the recorded measurement of a candidate, or None.

        Args:
            scope: The data and settings of the measurement; scopes are separate.
            masks: One keep mask (N,) per layer.
        """
        return self._known.get(_key(scope, masks))

    def append(self, scope: str, masks: Sequence[Mask], found: CachedMeasurement) -> None:
        """Record the measurement of a candidate.

        Raises:
            OSError: If the file cannot be written.
        """
        self.measured += 1
        self._write(_key(scope, masks), found)
        self._after()

    @property
    def kinds(self) -> set[str]:
        """The kinds of processors that have measured its candidates."""
        return {key.removeprefix(_KIND) for key in self._known if key.startswith(_KIND)}

    def mark_kind(self, kind: str) -> None:
        """Record the kind of processor that measures, for :attr:`kinds`.

        Raises:
            OSError: If the file cannot be written.
        """
        if not self.is_marked(_KIND + kind):
            self.mark(_KIND + kind)

    def mark(self, event: str) -> None:
        """Record an event of the search, for :meth:`is_marked` in a resumed run.

        Raises:
            OSError: If the file cannot be written.
        """
        self._write(event, CachedMeasurement(0.0, 0.0))

    def is_marked(self, event: str) -> bool:
        """Return whether an event was recorded by this process or an earlier one."""
        return event in self._known

    def _write(self, key: str, found: CachedMeasurement) -> None:
        self._known[key] = found
        if self._path is None:
            return
        text = json.dumps([key, *found, self._clock.seconds])
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{_checksum(text)} {text}\n")
            file.flush()
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                os.fsync(file.fileno())
                self._synced = time.monotonic()

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        whole = 0
        for line in content.splitlines(keepends=True):
            checksum, _, text = line.decode(errors="replace").rstrip("\n").partition(" ")
            if not line.endswith(b"\n") or checksum != _checksum(text):
                break
            key, accuracy, loss, self._earlier = json.loads(text)
            self._known[key] = CachedMeasurement(accuracy, loss)
            whole += len(line)
        if whole < len(content):
            os.truncate(path, whole)


def _key(scope: str, masks: Sequence[Mask]) -> str:
    kept = np.packbits(np.concatenate(masks)).tobytes()
    return hashlib.sha1(f"{scope}\n".encode() + kept).hexdigest()


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
