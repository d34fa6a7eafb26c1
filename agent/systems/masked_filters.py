"""A network that trains while filters are masked, and is cut afterwards.

Shapes: L layers, N filters of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ...envs.modules.copying import replica
from ...envs.sparsity import apply_masks, cubic_sparsity, keep_masks, remove_masks, set_masks
from ...envs.sparsity.filters import filter_masks
from ...envs.sparsity.schedule import Updates
from ...envs.surgery.cutting import cut
from ...envs.surgery.plan import Mask, PruningPlan
from ..deciders.base import Budget
from .base import Job
from .filter_ranking import verified
from .training import share_passes, steps_of_stage, train_stage

MASKED = 0.5
"""Share of the passes in which the network is masked; in the rest it trains as it was cut."""

_REACHED = 0.8
"""Share of the masked steps after which the final size is reached."""

_UPDATES = 50
"""Times that the size changes, about; Zhu and Gupta 2017, section 3, find that the number hardly matters."""


@dataclass(frozen=True)
class Stages:
    """The course of a job: masked steps, in which the network shrinks, and passes after the cut.

    Args:
        masked: Passes while the network is masked.
        cut: Passes after the cut.
        end: Masked step at which the final size is reached, from 1; 0 if there is no step.
        settled: Masked step from which on no mask changes, at least ``end``.
        updates: Masked steps at which the size changes.
    """

    masked: float
    cut: float
    end: int
    settled: int
    updates: Updates

    @classmethod
    def of(cls, job: Job) -> Stages:
        """Share the passes of a job."""
        masked, after = share_passes(job, (MASKED, 1 - MASKED))
        steps = steps_of_stage(job, masked)
        end = max(min(1, steps), round(_REACHED * steps))
        settled = (end + steps + 1) // 2
        return cls(masked, after, end, settled, Updates.spread(end, _UPDATES))

    def budget(self, job: Job, step: int) -> Budget:
        """Return the size after a masked step: the share of the MACs falls by the cubic schedule."""
        gone = cubic_sparsity(step, 0, self.end, 0.0, 1 - job.target)
        return Budget(job.network, job.target if step >= self.end else 1 - gone, "macs")


def check_unmasked(job: Job) -> None:
    """Refuse a dense network that has masks: those of filters would take their place.

    Raises:
        ValueError: If it has.
    """
    if keep_masks(job.model):
        raise ValueError(
            f"{job.name} has masks of torch.nn.utils.prune, beside which its filters cannot be masked; write "
            "them into its weights with secateur.envs.sparsity.remove_masks(model)"
        )


def dense_with_masks(job: Job) -> nn.Module:
    """Return a copy of the dense network in which every filter has a mask that keeps it.

    Raises:
        ValueError: If the dense network has masks.
    """
    check_unmasked(job)
    model = replica(job.model)
    apply_masks(model, filter_masks(model, job.network, PruningPlan.dense(job.network).masks(job.network)))
    return model


def mask_filters(model: nn.Module, job: Job, kept: Sequence[Mask]) -> None:
    """Mask all filters but those to keep, one keep mask (N,) per layer, in place."""
    set_masks(model, filter_masks(model, job.network, kept))


def cut_and_train(
    job: Job, model: nn.Module, kept: Sequence[Mask], epochs: float
) -> tuple[nn.Module, PruningPlan]:
    """Cut a masked network, check that the cut is exact, and train on."""
    plan = verified(job, kept)
    mask_filters(model, job, kept)
    smaller = cut(remove_masks(model), job.network, plan)
    train_stage(job, smaller, epochs, "cut")
    return smaller, plan
