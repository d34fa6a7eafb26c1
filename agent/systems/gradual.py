"""Prune gradually while training goes on: Zhu and Gupta 2017, arXiv 1710.01878."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...envs.recovery.callbacks import Progress
from ...envs.sparsity import cubic_sparsity, magnitude_masks, set_masks
from ...envs.sparsity.criteria import Scope
from ..procedures.short_recovery import steps_of
from .base import Job, Kind, Result
from .training import train_stage
from .weights import masked_copy, share_left, sparse_result


@dataclass(frozen=True)
class Gradual:
    """Raise the sparsity by the cubic schedule during one training; then train on with the last masks.

    Args:
        end: Share of the steps after which the masks stay as they are, in (0, 1].
        updates: Number of times that masks change, at least 1; fewer if there are fewer steps.
        scope: On which scale magnitudes are compared.
    """

    end: float = 0.5
    updates: int = 50
    scope: Scope = "global"
    kind: ClassVar[Kind] = "weights"

    def __call__(self, job: Job) -> Result:
        """Prune and train at once.

        Raises:
            ValueError: If the target is not allowed, or the network has no weights to prune.
        """
        model = masked_copy(job)
        initial = 1 - share_left(model)
        steps = steps_of(job.epochs, job.task, job.config.recovery)
        last = max(1, round(self.end * steps))
        interval = max(1, last // self.updates)

        def prune(step: int) -> None:
            removed = cubic_sparsity(step, 0, last, initial, max(initial, 1 - job.target))
            set_masks(model, magnitude_masks(model, 1 - removed, self.scope))

        def update(progress: Progress) -> None:
            step = progress.finished_steps
            if step == last or (step < last and step % interval == 0):
                prune(step)

        if not steps:
            prune(last)
        train_stage(job, model, job.epochs, "gradual", on_step=update)
        return sparse_result(job, model, job.epochs, steps=steps, last_step=last, interval=interval)
