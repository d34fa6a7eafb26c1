"""Prune single weights at once, then train what stays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from ...envs.sparsity import (
    Masks,
    magnitude_masks,
    n_of_m_masks,
    prunable_weights,
    random_masks,
    set_masks,
    threshold_factor,
)
from .base import Job, Kind, Result
from .training import train_stage
from .weights import masked_copy, sparse_result


@dataclass(frozen=True)
class Chosen:
    """What a criterion chooses.

    Args:
        masks: The masks.
        notes: Sentences for the report.
        details: Its own numbers for the report, as JSON holds them.
    """

    masks: Masks
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


Criterion = Callable[[nn.Module, Job], Chosen]
"""Chooses weights of a network for a job."""


@dataclass(frozen=True)
class OneShot:
    """Remove weights at once, and spend all passes on training what stays.

    Args:
        criterion: Chooses the weights.
    """

    criterion: Criterion
    kind: ClassVar[Kind] = "weights"

    def __call__(self, job: Job) -> Result:
        """Prune and train.

        Raises:
            ValueError: If the target is not allowed, or the network has no weights for the criterion.
        """
        model = masked_copy(job)
        chosen = self.criterion(model, job)
        set_masks(model, chosen.masks)
        train_stage(job, model, job.epochs, "after-pruning")
        return sparse_result(job, model, job.epochs, chosen.notes, **chosen.details)


def by_magnitude(model: nn.Module, job: Job) -> Chosen:
    """Keep the largest weights of the network."""
    return Chosen(magnitude_masks(model, job.target, "global"))


def by_magnitude_in_each_layer(model: nn.Module, job: Job) -> Chosen:
    """Keep the largest weights of each layer, in all layers the same share."""
    return Chosen(magnitude_masks(model, job.target, "layer"))


def by_threshold(model: nn.Module, job: Job) -> Chosen:
    """Keep the weights above a factor times the deviation of their layer (Han et al. 2015)."""
    details = {"factor": threshold_factor(model, job.target)}
    return Chosen(magnitude_masks(model, job.target, "deviation"), details=details)


def by_chance(model: nn.Module, job: Job) -> Chosen:
    """Keep weights that are drawn by the seed of the job."""
    return Chosen(random_masks(model, job.target, job.config.seed))


def two_of_four(model: nn.Module, job: Job) -> Chosen:
    """Keep the two largest of each four weights along the input channels.

    Raises:
        ValueError: If the target is not a half, or no layer has a multiple of four inputs.
    """
    if not math.isclose(job.target, 0.5):
        raise ValueError(f"two-of-four keeps a half of the weights; the target is {job.target:g}, give 0.5")
    masks = n_of_m_masks(model, 2, 4)
    if not masks:
        raise ValueError("two-of-four needs inputs in multiples of four; no layer of this network has them")
    whole = [name for name in prunable_weights(model) if name not in masks]
    note = f"Their inputs are no multiple of four, so these stay whole: {', '.join(whole)}."
    return Chosen(masks, (note,) if whole else (), {"whole_layers": whole})
