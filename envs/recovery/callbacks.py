"""What the callbacks of a training get, and how they end it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..modules.ranks import any_rank, together


@dataclass(frozen=True)
class Progress:
    """The progress of fine-tuning.

    Args:
        epoch: Current epoch, from 1.
        epochs: Number of epochs.
        step: Current step of the epoch, from 1.
        steps: Steps per epoch.
        loss: Training loss of this step; at the end of an epoch, its mean.
        learning_rate: Learning rate of this step.
        images_per_second: Training speed since the epoch began.
        val_accuracies: The task's metric on val after each finished epoch, percent, those before an
            interruption too; empty where it is not measured.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    learning_rate: float
    images_per_second: float
    val_accuracies: tuple[float, ...] = ()

    @property
    def finished_steps(self) -> int:
        """Steps of all epochs so far: an axis for logs."""
        return (self.epoch - 1) * self.steps + self.step


Callback: TypeAlias = Callable[[Progress], Any]
"""Called with the progress; it ends the training if it returns True. All else that it returns is ignored."""


@dataclass(frozen=True)
class Callbacks:
    """What a user wants to be called after each step and each epoch of the fine-tuning."""

    on_step: Callback | None = None
    on_epoch: Callback | None = None


NO_CALLBACKS = Callbacks()


def wants_end(callback: Callback | None, progress: Progress) -> bool:
    """Call a callback, if there is one, and return whether it ends the training, on every rank alike.

    One rank may have a callback that others do not have. What it raises is raised on all.
    """
    with together():
        answer = None if callback is None else callback(progress)
    return any_rank(isinstance(answer, bool | np.bool_) and bool(answer))
