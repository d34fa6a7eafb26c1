"""Dynamic network surgery: weights are removed and spliced in again while the network trains.

Guo et al. 2016, arXiv 1608.04493. Removed weights keep learning behind their mask (eq. 3), and come back once
they are large (eq. 4). Here the thresholds are where the size is exact at every time; the paper's are fixed,
and its size is what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ...envs.modules.copying import replica
from ...envs.recovery.callbacks import Progress
from ...envs.sparsity import apply_masks, keep_masks, magnitude_masks
from ...envs.sparsity.splicing import splice
from ..procedures.short_recovery import shortened, steps_of
from .base import Job, Kind, Result
from .carried import carried
from .training import train_stage

_MARGIN = 0.2
"""How much larger than what goes a weight has to be to come back."""

_SETTLED = 0.4
"""Share of the steps, the last ones, in which the masks stay as they are."""

_UPDATES = 200
"""Times that the masks are revised, about."""


@dataclass(frozen=True)
class Dynamic:
    """Prune weights by magnitude at once, and revise the masks while the network trains."""

    kind: ClassVar[Kind] = "weights"

    def __call__(self, job: Job) -> Result:
        """Train while the masks change, then while they stay; see :class:`.base.System`."""
        model = replica(job.model)
        first = magnitude_masks(model, job.target)
        apply_masks(model, first, straight_through=True)
        last = round((1 - _SETTLED) * steps_of(job.epochs, job.task, shortened(job.config.recovery)))
        every = max(1, last // _UPDATES)
        with carried(model, returns=torch.zeros((), dtype=torch.int64)) as numbers:

            def on_step(progress: Progress) -> None:
                if progress.finished_steps <= last and progress.finished_steps % every == 0:
                    numbers["returns"] += splice(model, _MARGIN)

            train_stage(job, model, job.epochs, "dynamic", on_step=on_step, teacher=job.model)
            returns = int(numbers["returns"])
        masks = keep_masks(model)
        apply_masks(model, masks)  # which stop to let removed weights learn
        details = {
            "revisions": last // every,
            "returns": returns,
            "kept_that_were_removed_at_first": sum(int((masks[k] & ~first[k]).sum()) for k in masks),
        }
        return Result(model, None, job.epochs, (), details)
