"""Progress on the terminal and in TensorBoard while weights are trained."""

from types import TracebackType
from typing import Self

from ...envs.modules.ranks import any_rank
from ...envs.recovery.callbacks import NO_CALLBACKS, Callbacks, Progress, wants_end
from ...envs.tasks import Task
from ...envs.tasks.optional_members import metric_name
from .folder import RunFolder
from .progress import Stage, log_verbose

_VAL_IMAGES = 2048
"""Validation images for the accuracy after each epoch."""


class RecoveryMonitor:
    """Show the progress of a training, and log each epoch to TensorBoard.

    The scalars are ``<prefix>/loss``, ``learning_rate``, ``images_per_second`` and ``val_accuracy``.

    Args:
        task: The task with its validation images; None does not measure on them.
        folder: Folder of the run, which is logged to and checked for a stop; None does neither.
        prefix: Label and prefix of the scalars, such as ``recovery`` or ``dense``.
        leave: Whether the progress bar stays when the training is over.
        callbacks: More callbacks, which are called first.
    """

    def __init__(
        self,
        task: Task | None,
        folder: RunFolder | None,
        prefix: str,
        *,
        leave: bool = True,
        callbacks: Callbacks = NO_CALLBACKS,
    ) -> None:
        self._task, self._folder, self._prefix = task, folder, prefix
        self._leave, self._callbacks = leave, callbacks
        self._stage: Stage | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stage is not None:
            self._stage.close()

    @property
    def val_images(self) -> int:
        """Images of val that are measured after each epoch, for whoever reads the accuracy."""
        is_read = any_rank(self._folder is not None or self._callbacks.on_epoch is not None)
        return _VAL_IMAGES if is_read and self._task is not None else 0

    def on_step(self, progress: Progress) -> bool:
        """Advance the progress bar, and stop if a signal was received; return whether the training ends."""
        ends = wants_end(self._callbacks.on_step, progress)
        if self._stage is None:
            total = progress.epochs * progress.steps
            self._stage = Stage(self._prefix, total, "steps", leave=self._leave)
        note = (
            f"epoch {progress.epoch}/{progress.epochs}, loss {progress.loss:.3f}, "
            f"{progress.images_per_second:.0f} images/s"
        )
        self._stage.advance(progress.finished_steps, note)
        if self._folder is not None and not ends:  # what ends is saved anyway
            self._folder.check()
        return ends

    def on_epoch(self, progress: Progress) -> bool:
        """Log the epoch; return whether the training ends."""
        ends = wants_end(self._callbacks.on_epoch, progress)
        if self._folder is not None:
            self._log(progress, self._folder)
        return ends

    def _log(self, progress: Progress, folder: RunFolder) -> None:
        scalars = {
            "loss": progress.loss,
            "learning_rate": progress.learning_rate,
            "images_per_second": progress.images_per_second,
        }
        on_val = ""
        if self._task is not None and progress.val_accuracies:
            accuracy = progress.val_accuracies[-1]
            scalars["val_accuracy"] = accuracy
            on_val = f"{metric_name(self._task)} {accuracy:.2f} % on val, "
        folder.log({f"{self._prefix}/{name}": value for name, value in scalars.items()}, progress.epoch)
        log_verbose(
            f"{self._prefix}, epoch {progress.epoch} of {progress.epochs}: loss {progress.loss:.4f}, "
            f"{on_val}learning rate {progress.learning_rate:.2g}, {progress.images_per_second:.0f} images/s"
        )
