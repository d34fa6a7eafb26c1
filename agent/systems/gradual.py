"""Prune gradually while training goes on: Zhu and Gupta 2017, arXiv 1710.01878."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

from ...envs.recovery.callbacks import Progress
from ...envs.sparsity import cubic_sparsity, magnitude_masks, set_masks
from ...envs.sparsity.criteria import Scope
from ...envs.sparsity.schedule import Updates
from .base import Job, Kind, Result
from .training import steps_of_stage, train_stage
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
        steps = steps_of_stage(job, job.epochs)
        updates = Updates.spread(max(1, round(self.end * steps)), self.updates)

        def prune(step: int) -> None:
            removed = cubic_sparsity(step, 0, updates.last, initial, max(initial, 1 - job.target))
            set_masks(model, magnitude_masks(model, 1 - removed, self.scope))

        def update(progress: Progress) -> None:
            if progress.finished_steps in updates:
                prune(progress.finished_steps)

        if not steps:
            prune(updates.last)
        train_stage(job, model, job.epochs, "gradual", on_step=update)
        return sparse_result(job, model, job.epochs, steps=steps, **asdict(updates))
