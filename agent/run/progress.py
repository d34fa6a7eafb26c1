"""Messages and progress bars on the terminal.

They go to stderr, as stdout is for results. Each stage has a progress bar with the time left; if stderr is
not a terminal, it prints a plain line at intervals.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from enum import IntEnum

from tqdm import tqdm

_PLAIN_SECONDS = 30.0
"""Interval between two lines about a stage without a terminal, seconds."""


_BAR = (
    "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit}, "
    "{elapsed} so far, {remaining} left{postfix}"
)


class Verbosity(IntEnum):
    """How much is printed."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


_verbosity = Verbosity.NORMAL


@contextlib.contextmanager
def verbosity(level: Verbosity) -> Iterator[None]:
    """Set the verbosity within a context."""
    global _verbosity
    before, _verbosity = _verbosity, level
    try:
        yield
    finally:
        _verbosity = before


def log_info(sentence: str) -> None:
    """Print a sentence to stderr, unless quiet."""
    if _verbosity > Verbosity.QUIET:
        tqdm.write(sentence, file=sys.stderr)


def log_verbose(sentence: str) -> None:
    """Print a sentence to stderr if verbose."""
    if _verbosity == Verbosity.VERBOSE:
        tqdm.write(sentence, file=sys.stderr)


class Stage:
    """Show the progress of a stage of the job.

    Args:
        label: Name of the stage.
        total: Units of work, at least 1.
        unit: Name of the unit, plural.
        leave: Whether the line stays when the stage is over.
    """

    def __init__(self, label: str, total: int, unit: str, *, leave: bool = True) -> None:
        self._label, self._total, self._unit, self._leave = label, total, unit, leave
        self._done, self._note = 0, ""
        self._began = self._said = time.monotonic()
        self._said_done: int | None = None
        self._bar: tqdm | None = None
        if _verbosity > Verbosity.QUIET and sys.stderr.isatty():
            self._bar = tqdm(
                total=total, desc=label, unit=unit, leave=leave, bar_format=_BAR, dynamic_ncols=True
            )

    def advance(self, done: int, note: str) -> None:
        """Update the progress.

        Args:
            done: Units done so far.
            note: A note about the last unit.
        """
        self._done, self._note = min(done, self._total), note
        if self._said_done is None:  # a resumed stage begins with units that took no time
            self._said, self._said_done = time.monotonic(), self._done
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(self._done - self._bar.n)
        elif time.monotonic() - self._said >= _PLAIN_SECONDS:
            self._say_plainly()

    def close(self) -> None:
        """End the stage and show its final progress."""
        if self._bar is not None:
            self._bar.close()
        elif self._leave:
            self._say_plainly()

    def _say_plainly(self) -> None:
        now = time.monotonic()
        pace = (now - self._said) / max(self._done - (self._said_done or 0), 1)
        self._said, self._said_done = now, self._done
        left = pace * (self._total - self._done)
        when = f"{_clock(left)} left" if self._done < self._total else f"took {_clock(now - self._began)}"
        note = f", {self._note}" if self._note else ""
        log_info(f"{self._label}: {self._done:,} of {self._total:,} {self._unit}, {when}{note}")


def _clock(seconds: float) -> str:
    return tqdm.format_interval(round(seconds))
