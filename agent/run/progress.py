"""What the person at the terminal sees, and what TensorBoard sees while weights are trained.

All of it goes to stderr, as stdout is for results: sentences, and one line that says how far a stage is and
how long it will still take. Where stderr is no terminal that is a plain line now and then.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from enum import IntEnum
from types import TracebackType
from typing import Self

from torch import nn
from tqdm import tqdm

from ...envs.recovery.finetuning import Progress
from ...envs.tasks import Task, measure
from ...envs.tasks.optional_members import metric_name
from .folder import RunFolder

_VAL_IMAGES = 2048
"""Validation images that the accuracy after each epoch is measured on."""

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


class RecoveryMonitor:
    """Show the epochs of a training, and write them to TensorBoard.

    Scalars ``<prefix>/loss``, ``learning_rate``, ``images_per_second`` and ``val_accuracy``, once an epoch.

    Args:
        model: The network that is trained.
        task: Its data.
        folder: Of the run, where it is written and which may want to end; None writes nothing.
        prefix: ``recovery``, or ``dense`` where the dense network is trained.
        leave: Whether the line stays when the training is over.
    """

    def __init__(
        self, model: nn.Module, task: Task, folder: RunFolder | None, prefix: str, *, leave: bool = True
    ) -> None:
        self._model, self._task, self._folder, self._prefix = model, task, folder, prefix
        self._leave = leave
        self._stage: Stage | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stage is not None:
            self._stage.close()

    def on_step(self, progress: Progress) -> None:
        """Say how far it is."""
        if self._stage is None:
            total = progress.epochs * progress.steps
            self._stage = Stage(self._prefix, total, "steps", leave=self._leave)
        note = (
            f"epoch {progress.epoch}/{progress.epochs}, loss {progress.loss:.3f}, "
            f"{progress.images_per_second:.0f} images/s"
        )
        self._stage.advance((progress.epoch - 1) * progress.steps + progress.step, note)
        if self._folder is not None:
            self._folder.check()

    def on_epoch(self, progress: Progress) -> None:
        """Measure on val and write the epoch down."""
        if self._folder is None:
            return
        accuracy = measure(self._model, self._task, "val", limit=_VAL_IMAGES).accuracy
        scalars = {
            "loss": progress.loss,
            "learning_rate": progress.learning_rate,
            "images_per_second": progress.images_per_second,
            "val_accuracy": accuracy,
        }
        self._folder.log({f"{self._prefix}/{name}": value for name, value in scalars.items()}, progress.epoch)
        log_verbose(
            f"{self._prefix}, epoch {progress.epoch} of {progress.epochs}: loss {progress.loss:.4f}, "
            f"{metric_name(self._task)} {accuracy:.2f} % on val, learning rate {progress.learning_rate:.2g}, "
            f"{progress.images_per_second:.0f} images/s"
        )
