"""What a task may have beyond its contract, and what stands in where it has not; see :class:`.base.Task`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from .base import Task

ACCURACY = "accuracy"
"""What reports call the metric of a task that does not say."""


def metric_name(task: Task) -> str:
    """Say what reports call the metric."""
    return str(getattr(task, "metric_name", ACCURACY))


def details_of(task: Task, statistics: Tensor) -> Mapping[str, float | None]:
    """Give the metric of each class or output by name, percent; nothing where the task does not."""
    details = getattr(task, "details", None)
    return details(statistics) if details is not None else {}


def batch_size_for(task: Task, wanted: int) -> int:
    """Bound a batch size by what the task says its examples bear."""
    return max(1, min(wanted, int(getattr(task, "largest_batch", wanted))))


def measuring_batch(task: Task, wanted: int) -> int:
    """Bound the batch of a pass without gradients too: 512 images of 224x224 want 13 GB in a VGG-16.

    Args:
        task: Says how large an example is.
        wanted: For examples of up to 64x64 pixels.
    """
    pixels = math.prod(task.input_shape[1:])
    return batch_size_for(task, max(1, min(wanted, wanted * 64 * 64 // max(1, pixels))))


def distill(task: Task, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compare two networks' outputs as the task does, else by their mean squared error.

    A softened softmax makes sense of classes only, and what outputs mean only the task knows.
    """
    distillation = getattr(task, "distillation", None)
    if distillation is not None:
        loss: Tensor = distillation(student, teacher, temperature)
        return loss
    return F.mse_loss(student, teacher)


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compare two networks' classes: T^2 KL(teacher || student), Hinton et al. 2015, arXiv 1503.02531.

    Args:
        student: Outputs (B, K, ...) before the softmax.
        teacher: Likewise.
        temperature: Divides both, > 0.
    """
    ours, theirs = (F.log_softmax(outputs / temperature, dim=1) for outputs in (student, teacher))
    divergence = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)
    return temperature**2 * divergence.mean()
