"""Dynamic network surgery: weights are removed and spliced in again while the network trains.

Guo et al. 2016, arXiv 1608.04493. Removed weights keep learning behind their mask (eq. 3), and come back once
they are large (eq. 4). The paper's thresholds are fixed, and its size is what comes out. Here the size is
given: it falls by the cubic schedule of Zhu and Gupta 2017, arXiv 1710.01878, eq. 1, as in Lin et al. 2020,
arXiv 2006.07253.

With few weights and a high learning rate this alone runs away: removed weights grow as long as nothing comes
of it, come back many at once, and the gradient of the network that they break drives the others further. So
few come back at a time, and what is removed fades.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ...envs.recovery.callbacks import Progress
from ...envs.sparsity import apply_masks, cubic_sparsity, keep_masks
from ...envs.sparsity.schedule import Updates
from ...envs.sparsity.splicing import splice
from .base import Job, Kind, Result
from .carried import carried
from .training import steps_of_stage, train_stage
from .weights import masked_copy, share_left, sparse_result

_MARGIN = 0.2
"""How much larger than what goes a weight has to be to come back."""

_MOST = 0.01
"""Weights that may come back in a revision, as a share of those that a layer keeps."""

_FADE = 0.5
"""What a removed weight loses in a revision, as a share. With this and _MOST the demo network has 97.2 and
85.5 % on val at 2 and 1 % of its weights, with neither 51.0 and 25.1 (one seed, four epochs)."""

_REACHED = 0.4
"""Share of the steps after which the final size is reached."""

_SETTLED = 0.5
"""Share of the steps after which the masks stay as they are."""

_UPDATES = 100
"""Times that the masks are revised, about."""


@dataclass(frozen=True)
class Dynamic:
    """Prune weights by magnitude, and revise the masks while the network trains."""

    kind: ClassVar[Kind] = "weights"

    def __call__(self, job: Job) -> Result:
        """Train while the masks change, then while they stay; see :class:`.base.System`."""
        model = masked_copy(job, straight_through=True)
        initial = share_left(model)
        steps = steps_of_stage(job, job.epochs)
        reached, updates = round(_REACHED * steps), Updates.spread(round(_SETTLED * steps), _UPDATES)
        counted = {"returns": torch.zeros((), dtype=torch.int64)}
        counted |= {f"gone_{k}": ~mask for k, mask in enumerate(keep_masks(model).values())}
        with carried(model, **counted) as numbers:

            def revise(step: int) -> None:
                gone = cubic_sparsity(step, 0, reached, 1 - initial, 1 - min(initial, job.target))
                numbers["returns"] += splice(model, 1 - gone, margin=_MARGIN, most=_MOST, fade=_FADE)
                for k, mask in enumerate(keep_masks(model).values()):
                    numbers[f"gone_{k}"] |= ~mask

            def on_step(progress: Progress) -> None:
                if progress.finished_steps in updates:
                    revise(progress.finished_steps)

            if not updates:
                revise(steps)
            train_stage(job, model, job.epochs, "dynamic", on_step=on_step)
            masks, returns = keep_masks(model), int(numbers["returns"])
            stayed = sum(int((mask & numbers[f"gone_{k}"]).sum()) for k, mask in enumerate(masks.values()))
        apply_masks(model, masks)  # which stop to let removed weights learn
        return sparse_result(
            job,
            model,
            job.epochs,
            revisions=len(updates),
            returns=returns,
            returned_and_stayed=stayed,
        )
