"""Progress on the terminal and in TensorBoard while weights are trained."""

from types import TracebackType
from typing import Self

from torch import nn

from ...envs.recovery.finetuning import Progress
from ...envs.tasks import Task, measure
from ...envs.tasks.optional_members import metric_name
from .folder import RunFolder
from .progress import Stage, log_verbose

_VAL_IMAGES = 2048
"""Validation images for the accuracy after each epoch."""


class RecoveryMonitor:
    """Show the progress of a training, and log each epoch to TensorBoard.

    The scalars are ``<prefix>/loss``, ``learning_rate``, ``images_per_second`` and ``val_accuracy``.

    Args:
        model: The network that is trained.
        task: The task with its validation images; None does not measure on them.
        folder: Folder of the run, which is logged to and checked for a stop; None does neither.
        prefix: Label and prefix of the scalars, such as ``recovery`` or ``dense``.
        leave: Whether the progress bar stays when the training is over.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task | None,
        folder: RunFolder | None,
        prefix: str,
        *,
        leave: bool = True,
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
        """Advance the progress bar, and stop if a signal was received."""
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
        """Measure the accuracy on val and log the epoch."""
        if self._folder is None:
            return
        scalars = {
            "loss": progress.loss,
            "learning_rate": progress.learning_rate,
            "images_per_second": progress.images_per_second,
        }
        on_val = ""
        if self._task is not None:
            accuracy = measure(self._model, self._task, "val", limit=_VAL_IMAGES).accuracy
            scalars["val_accuracy"] = accuracy
            on_val = f"{metric_name(self._task)} {accuracy:.2f} % on val, "
        self._folder.log({f"{self._prefix}/{name}": value for name, value in scalars.items()}, progress.epoch)
        log_verbose(
            f"{self._prefix}, epoch {progress.epoch} of {progress.epochs}: loss {progress.loss:.4f}, "
            f"{on_val}learning rate {progress.learning_rate:.2g}, {progress.images_per_second:.0f} images/s"
        )
