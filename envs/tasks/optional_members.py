"""Optional members of tasks and their defaults; see :class:`.base.Task`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from .base import SplitName, Task

ACCURACY = "accuracy"
"""Name of the metric of a task without ``metric_name``."""


def metric_name(task: Task) -> str:
    """Return the name of the metric in reports."""
    return str(getattr(task, "metric_name", ACCURACY))


def class_names(task: Task) -> list[str] | None:
    """Return the names of a task's classes, in the order of the outputs; None if it does not name them."""
    names = getattr(task, "classes", None)
    if not isinstance(names, list | tuple) or len(names) != task.num_outputs:
        return None
    return [str(name) for name in names]


def details_of(task: Task, statistics: Tensor) -> Mapping[str, float | None]:
    """Return the metric of each class or output by name, percent; empty if the task does not define it."""
    details = getattr(task, "details", None)
    return details(statistics) if details is not None else {}


def targets_at_hand(task: Task, split: SplitName) -> Tensor | None:
    """Return all targets of a split if the task has them without reading inputs; else None."""
    all_targets: Callable[[SplitName], Tensor | None] | None = getattr(task, "all_targets", None)
    return None if all_targets is None else all_targets(split)


def inputs_at_hand(task: Task, split: SplitName) -> Tensor | None:
    """Return all inputs of a split if the task holds them in memory; else None."""
    all_inputs: Callable[[SplitName], Tensor | None] | None = getattr(task, "all_inputs", None)
    return None if all_inputs is None else all_inputs(split)


def batch_size_for(task: Task, batch_size: int) -> int:
    """Limit a batch size to the task's ``largest_batch``."""
    return max(1, min(batch_size, int(getattr(task, "largest_batch", batch_size))))


def measuring_batch(task: Task, batch_size: int) -> int:
    """Limit the batch size of a pass without gradients: 512 images of 224x224 need 13 GB in a VGG-16.

    Args:
        task: The task; its ``input_shape`` counts.
        batch_size: Batch size for examples of up to 64x64 pixels, at least 1.
    """
    pixels = math.prod(task.input_shape[1:])
    return batch_size_for(task, max(1, min(batch_size, batch_size * 64 * 64 // max(1, pixels))))


def has_loss(task: Task) -> bool:
    """Return whether a task compares outputs with targets; else the network computes its losses itself."""
    return getattr(task, "loss", None) is not None


def has_training_loss(task: Task) -> bool:
    """Return whether a task computes the loss of a training step with the network itself."""
    return getattr(task, "training_loss", None) is not None


def training_loss(task: Task, model: nn.Module, inputs: Tensor, targets: Any) -> Tensor:
    """Compute the task's own loss of a training step, with the network itself.

    Args:
        task: A task with ``training_loss``.
        model: The network in training mode.
        inputs: The batch, which the network may edit.
        targets: The targets of the batch.
    """
    loss: Tensor = task.training_loss(model, inputs, targets)  # type: ignore[attr-defined]
    return loss


def smoothed_loss(task: Task, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    """Compute the task's loss with label smoothing (Szegedy et al. 2016, arXiv 1512.00567, section 7).

    Args:
        task: The task.
        outputs: The main output of the network.
        targets: The targets of the batch.
        label_smoothing: Share of each target that all classes share, in [0, 1); 0 is the loss as it is.

    Raises:
        ValueError: If the task has no such loss.
    """
    if not label_smoothing:
        return task.loss(outputs, targets)
    smoothed = getattr(task, "smoothed_loss", None)
    if smoothed is None or has_training_loss(task):
        raise ValueError(no_smoothing(task.name))
    loss: Tensor = smoothed(outputs, targets, label_smoothing)
    return loss


def no_smoothing(name: str) -> str:
    """Return the message that the loss of a task cannot be smoothed."""
    return (
        f"label smoothing is for cross-entropy over classes, and {name} has a loss of its own; leave out "
        "--label-smoothing, or give the task smoothed_loss(outputs, targets, label_smoothing)"
    )


def distill(task: Task, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute the task's distillation loss, by default the mean squared error of the outputs.

    Hinton's loss is no default, as only the task knows whether its outputs are classes.
    """
    distillation = getattr(task, "distillation", None)
    if distillation is not None:
        loss: Tensor = distillation(student, teacher, temperature)
        return loss
    return F.mse_loss(student, teacher)


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute T^2 KL(teacher || student) over classes (Hinton et al. 2015, arXiv 1503.02531).

    Args:
        student: Logits (B, K, ...) of the student.
        teacher: Logits (B, K, ...) of the teacher.
        temperature: Temperature T, divides both, > 0.
    """
    student_log, teacher_log = (F.log_softmax(outputs / temperature, dim=1) for outputs in (student, teacher))
    divergence = F.kl_div(student_log, teacher_log, reduction="none", log_target=True).sum(1)
    return temperature**2 * divergence.mean()
