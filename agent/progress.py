"""What the terminal and TensorBoard show while weights are trained."""

import sys
from types import TracebackType
from typing import Self

from torch import nn
from tqdm import tqdm

from ..envs.recovery import Progress
from ..envs.tasks import Task, measure
from .run_folder import RunFolder

_VAL_IMAGES = 2048
"""Validation images that the accuracy after each epoch is measured on."""


def say(sentence: str) -> None:
    """Tell the person at the terminal something, on stderr: stdout is for results."""
    tqdm.write(sentence, file=sys.stderr)


class RecoveryMonitor:
    """Show the epochs of a training, and write them to TensorBoard.

    Scalars ``<prefix>/loss``, ``learning_rate``, ``images_per_second`` and ``val_accuracy``, once an epoch.

    Args:
        model: The network that is trained.
        task: Its data.
        folder: Of the run, where it is written and which may want to end; None writes nothing.
        prefix: ``recovery``, or ``dense`` where the dense network is trained.
        leave: Whether the bar stays when the training is over.
    """

    def __init__(
        self, model: nn.Module, task: Task, folder: RunFolder | None, prefix: str, *, leave: bool = True
    ) -> None:
        self._model, self._task, self._folder, self._prefix = model, task, folder, prefix
        self._leave = leave
        self._bar: tqdm | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def on_step(self, progress: Progress) -> None:
        """Move the bar."""
        if self._bar is None:
            total = progress.epochs * progress.steps
            done = (progress.epoch - 1) * progress.steps + progress.step - 1
            self._bar = tqdm(total=total, initial=done, desc=self._prefix, unit="step", leave=self._leave)
        self._bar.set_postfix_str(
            f"epoch {progress.epoch}/{progress.epochs}, loss {progress.loss:.3f}, "
            f"{progress.images_per_second:.0f} images/s",
            refresh=False,
        )
        self._bar.update()
        if self._folder is not None:
            self._folder.check()

    def on_epoch(self, progress: Progress) -> None:
        """Measure on val and write the epoch down."""
        if self._folder is None:
            return
        scalars = {
            "loss": progress.loss,
            "learning_rate": progress.learning_rate,
            "images_per_second": progress.images_per_second,
            "val_accuracy": measure(self._model, self._task, "val", limit=_VAL_IMAGES).accuracy,
        }
        self._folder.log({f"{self._prefix}/{name}": value for name, value in scalars.items()}, progress.epoch)
