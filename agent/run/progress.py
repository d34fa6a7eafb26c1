"""What the person at the terminal is told.

All of it goes to stderr, as stdout is for results: sentences, and one line that says how far a stage is and
how long it will still take. Where stderr is no terminal that is a plain line now and then.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from enum import IntEnum

from tqdm import tqdm

_PLAIN_SECONDS = 30.0
"""Between two lines about a stage where there is no terminal."""


_BAR = (
    "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit}, "
    "{elapsed} so far, {remaining} left{postfix}"
)


class Verbosity(IntEnum):
    """How much is said."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


_verbosity = Verbosity.NORMAL


@contextlib.contextmanager
def verbosity(level: Verbosity) -> Iterator[None]:
    """Say more or less for a while."""
    global _verbosity
    before, _verbosity = _verbosity, level
    try:
        yield
    finally:
        _verbosity = before


def log_info(sentence: str) -> None:
    """Tell the person at the terminal something, unless they want it quiet."""
    if _verbosity > Verbosity.QUIET:
        tqdm.write(sentence, file=sys.stderr)


def log_verbose(sentence: str) -> None:
    """Tell something that only those want to know who asked for all."""
    if _verbosity == Verbosity.VERBOSE:
        tqdm.write(sentence, file=sys.stderr)


class Stage:
    """A part of the job of which one can say how far it is.

    Args:
        label: What it is called.
        total: Units of work, at least 1.
        unit: What they are, in the plural.
        leave: Whether its line stays when it is over.
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
        """Say that so many units are done in all, and something about the last of them."""
        self._done, self._note = min(done, self._total), note
        if self._said_done is None:  # a stage that goes on begins with much that it need not do again
            self._said, self._said_done = time.monotonic(), self._done
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(self._done - self._bar.n)
        elif time.monotonic() - self._said >= _PLAIN_SECONDS:
            self._say_plainly()

    def close(self) -> None:
        """Say how far it came."""
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
