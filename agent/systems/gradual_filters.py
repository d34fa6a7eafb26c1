"""Gradual pruning of filters: more and more of them are masked while the network trains.

The schedule is that of Zhu and Gupta 2017, arXiv 1710.01878, eq. 1, with MACs in place of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...envs.recovery.callbacks import Progress
from ...envs.sparsity.filters import kept_filters
from .base import Job, Kind, Result
from .filter_ranking import highest_ranked, macs_ratio
from .masked_filters import Stages, cut_and_train, dense_with_masks, mask_filters
from .training import train_stage


@dataclass(frozen=True)
class GradualFilters:
    """Mask the filters that rank lowest, as many as the schedule says; then cut, and train on."""

    kind: ClassVar[Kind] = "filters"

    def __call__(self, job: Job) -> Result:
        """Train masked, cut, train; see :class:`.base.System`."""
        network, stages = job.network, Stages.of(job)
        stages.budget(job, stages.end)  # refuse a size that cannot be reached before anything is trained
        model = dense_with_masks(job)

        def prune(step: int) -> None:
            kept = kept_filters(model, network)
            mask_filters(model, job, highest_ranked(model, job.model, stages.budget(job, step), kept))

        def on_step(progress: Progress) -> None:
            if progress.finished_steps in stages.updates:
                prune(progress.finished_steps)

        train_stage(job, model, stages.masked, "masked", on_step=on_step)
        kept = kept_filters(model, network)
        if not stages.end:
            kept = highest_ranked(model, job.model, stages.budget(job, 0), kept)
        smaller, plan = cut_and_train(job, model, kept, stages.cut)
        details = {
            "updates": len(stages.updates),
            "masked_epochs": stages.masked,
            "macs_ratio": macs_ratio(network, kept),
        }
        return Result(smaller, plan, job.epochs, (), details)
