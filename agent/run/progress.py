"""Messages and progress on the terminal.

Everything goes to stderr, as stdout is for results. A stage of the run has a progress bar with its remaining
time; if stderr is neither a terminal nor in a notebook, a plain line is printed at intervals instead.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from enum import IntEnum

from tqdm import tqdm

from .wording import worded

_PLAIN_SECONDS = 30.0
"""Seconds between two plain lines about a stage, without a terminal."""


_BAR = (
    "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit}, "
    "{elapsed} so far, {remaining} left{postfix}"
)


class Verbosity(IntEnum):
    """Level of detail of the messages."""

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


def _loudness() -> Verbosity:
    """Return the verbosity; of several ranks only the first one talks."""
    if "torch" not in sys.modules:
        return _verbosity
    from ...envs.modules.ranks import is_first  # here, as --help has to start without torch

    return _verbosity if is_first() else Verbosity.QUIET


def log_info(sentence: str) -> None:
    """Print a message, unless the verbosity is QUIET."""
    if _loudness() > Verbosity.QUIET:
        tqdm.write(worded(sentence), file=sys.stderr)


def log_verbose(sentence: str) -> None:
    """Print a message if the verbosity is VERBOSE."""
    if _loudness() == Verbosity.VERBOSE:
        tqdm.write(worded(sentence), file=sys.stderr)


def _is_notebook() -> bool:
    """Return whether the code runs in a Jupyter kernel, whose stderr can redraw a line but is no terminal."""
    return "ipykernel" in sys.modules and "IPython" in sys.modules


class Stage:
    """Show the progress of one stage of a run.

    Args:
        label: Label of the stage.
        total: Number of units of work, at least 1.
        unit: Name of the units, in the plural.
        leave: Whether the progress bar or a final line stays when the stage is over.
    """

    def __init__(self, label: str, total: int, unit: str, *, leave: bool = True) -> None:
        self._label, self._total, self._unit, self._leave = label, total, unit, leave
        self._done, self._note = 0, ""
        self._began = self._last_printed = time.monotonic()
        self._last_printed_done: int | None = None
        self._bar: tqdm | None = None
        if _loudness() > Verbosity.QUIET and (sys.stderr.isatty() or _is_notebook()):
            self._bar = tqdm(
                total=total, desc=label, unit=unit, leave=leave, bar_format=_BAR, dynamic_ncols=True
            )

    def advance(self, done: int, note: str) -> None:
        """Set the number of finished units, and a note such as the current loss."""
        self._done, self._note = min(done, self._total), note
        if self._last_printed_done is None:  # the finished units of a resumed stage took no time now
            self._last_printed, self._last_printed_done = time.monotonic(), self._done
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(self._done - self._bar.n)
        elif time.monotonic() - self._last_printed >= _PLAIN_SECONDS:
            self._print_line()

    def close(self) -> None:
        """Close the progress bar, or print a final line."""
        if self._bar is not None:
            self._bar.close()
        elif self._leave:
            self._print_line()

    def _print_line(self) -> None:
        now = time.monotonic()
        pace = (now - self._last_printed) / max(self._done - (self._last_printed_done or 0), 1)
        self._last_printed, self._last_printed_done = now, self._done
        left = pace * (self._total - self._done)
        when = f"{_clock(left)} left" if self._done < self._total else f"took {_clock(now - self._began)}"
        note = f", {self._note}" if self._note else ""
        log_info(f"{self._label}: {self._done:,} of {self._total:,} {self._unit}, {when}{note}")


def estimated_duration(seconds: float) -> str:
    """Return a duration that is only estimated, such as "about 40 s"."""
    if seconds < 10:
        return f"about {max(1, round(seconds))} s"
    if seconds < 100:
        return f"about {round(seconds, -1):.0f} s"
    minutes = seconds / 60
    return f"about {minutes:.0f} min" if minutes < 100 else f"about {minutes / 60:.1f} h"


def _clock(seconds: float) -> str:
    return tqdm.format_interval(round(seconds))
