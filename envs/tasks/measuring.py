"""Measuring a network on a task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..modules.inputs import run_on_copy
from ..modules.modes import fastest_layout, restored_modes
from ..modules.outputs import main_output
from .base import SplitName, Task
from .optional_members import details_of, measuring_batch

_MOST_KEPT = 2**24
"""Numbers that are kept of all examples together."""


@dataclass(frozen=True)
class Measurement:
    """How well a network does on a split.

    Args:
        accuracy: The task's metric, percent.
        loss: Mean loss.
        images: Examples it was measured on.
        details: The metric of each class or output by name, percent; empty where the task does not tell.
        pieces: What the metric needs to know of every example, (images, ...), on the CPU, or of groups of
            as many examples where it is large; None where nobody asked.
    """

    accuracy: float
    loss: float
    images: int
    details: Mapping[str, float | None] = field(default_factory=dict)
    pieces: Tensor | None = field(default=None, repr=False, compare=False)


def measure(
    model: nn.Module,
    task: Task,
    split: SplitName,
    *,
    batch_size: int = 512,
    limit: int | None = None,
    by_example: bool = False,
) -> Measurement:
    """Measure a network in evaluation mode and float32; its modes are restored.

    Args:
        model: The network, on the task's device.
        task: Data and metric.
        split: What to measure on.
        batch_size: Examples at a time, at least 1; fewer where the task says so.
        limit: Measure on that many examples only, spread evenly over the split; None takes all.
        by_example: Keep what the metric needs to know of every example too.

    Raises:
        ValueError: If the split is empty or the limit is not positive.
    """
    size = task.size(split)
    images = size if limit is None else min(limit, size)
    if images < 1:
        raise ValueError(f"nothing to measure: the split {split} has {size} images, the limit is {limit}")
    indices = (
        torch.arange(images) * size // images
    )  # image folders are sorted by class: spread over all of it
    statistics: Tensor | None = None
    pieces: list[Tensor] = []
    loss = 0.0
    with restored_modes(model), torch.no_grad():
        model.eval()
        layout: torch.memory_format | None = None
        for part in indices.split(measuring_batch(task, batch_size)):
            inputs, targets = task.batch(split, part)
            layout = layout or fastest_layout(model, inputs)
            outputs = main_output(run_on_copy(model, inputs.contiguous(memory_format=layout)))
            found = task.statistics(outputs, targets)
            statistics = found if statistics is None else statistics + found
            loss += float(task.loss(outputs, targets)) * len(part)
            if by_example:
                group = math.ceil(images * found.numel() / _MOST_KEPT)
                pairs = zip(outputs.split(group), targets.split(group), strict=True)
                pieces.append(torch.stack([task.statistics(*pair) for pair in pairs]).cpu())
    assert statistics is not None
    kept = torch.cat(pieces) if by_example else None
    return Measurement(task.metric(statistics), loss / images, images, details_of(task, statistics), kept)


def check_measured(measured: Measurement, what: str, where: str = "") -> None:
    """Refuse a network that was measured as nothing.

    Args:
        measured: On val.
        what: Names the network.
        where: What is known of the layer.

    Raises:
        FloatingPointError: If the metric or the loss is infinite or undefined.
    """
    for kind, value in (("metric", measured.accuracy), ("loss", measured.loss)):
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the {kind} of {what} on val is {value}{where}: look at the data, the weights, the loss and "
                "the metric"
            )
