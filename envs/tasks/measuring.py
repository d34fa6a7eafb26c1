"""Measure a network on a task."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..io.wording import counted
from ..modules.inputs import run_on_copy
from ..modules.modes import fastest_layout, restored_modes
from ..modules.ranks import gather, rank, ranks, together
from .base import SplitName, Task
from .finite_examples import require_finite
from .network_loss import measured_loss, outputs_for
from .optional_members import class_names, details_of, has_loss, measuring_batch
from .passes import Pass, stream

_MAX_STORED = 2**24
"""Largest number of values stored for all examples together."""


@dataclass(frozen=True)
class Measurement:
    """The accuracy and loss of a network on a split.

    Args:
        accuracy: The task's metric, percent.
        loss: Mean loss.
        images: Number of measured examples.
        details: The metric of each class or output by name, percent; empty if the task does not define it.
        example_statistics: The metric's statistics of each example, (images, ...), on the CPU; of groups of
            equally many examples if they are large; None unless requested.
        labels: The class of each example, (images,), on the CPU; None unless requested, or if the targets are
            not one class per example.
    """

    accuracy: float
    loss: float
    images: int
    details: Mapping[str, float | None] = field(default_factory=dict)
    example_statistics: Tensor | None = field(default=None, repr=False, compare=False)
    labels: Tensor | None = field(default=None, repr=False, compare=False)


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

    Several ranks share the batches, and all of them get what one would have measured, bit by bit. So every
    rank has to call this.

    Args:
        model: The network, on the task's device.
        task: Data, loss and metric.
        split: The split to measure on.
        batch_size: Examples per batch, at least 1; fewer if the task sets a limit.
        limit: Number of examples to measure on, spread evenly over the split; None is all.
        by_example: Whether to store the statistics and the label of each example.

    Raises:
        ValueError: If the split is empty, the limit is not positive, or the loss is not finite because inputs
            or targets are not.
    """
    size = task.size(split)
    images = size if limit is None else min(limit, size)
    if images < 1:
        raise ValueError(
            f"nothing to measure: the split {split} has {counted(size, 'image')}, the limit is {limit}"
        )
    indices = (
        torch.arange(images) * size // images
    )  # spread over the split, as image folders are sorted by class
    statistics: Tensor | None = None
    example_statistics: list[Tensor] = []
    labels: list[Tensor] = []
    loss = 0.0
    with restored_modes(model), torch.no_grad():
        model.eval()
        # Outputs and targets of any kind cannot be split, so each example is a batch.
        single = by_example and not has_loss(task)
        batches = indices.split(1 if single else measuring_batch(task, batch_size))
        measured = _BatchMeasurer(model, task, images if by_example and not single else None)
        for number, found in enumerate(_shared_batches(task, split, batches, measured)):
            statistics = found.statistics if statistics is None else statistics + found.statistics
            loss += found.loss
            if not math.isfinite(found.loss):
                _require_finite_data(task, split, batches[number])
            if single:
                _add_example(example_statistics, found.statistics, number, images)
            if found.by_example is not None:
                example_statistics.append(found.by_example)
            if found.labels is not None:
                labels.append(found.labels)
    assert statistics is not None
    stored = torch.cat(example_statistics) if by_example else None
    details = details_of(task, statistics)
    return Measurement(
        task.metric(statistics), loss / images, images, details, stored, torch.cat(labels) if labels else None
    )


def _require_finite_data(task: Task, split: SplitName, indices: Tensor) -> None:
    """Refuse a batch whose inputs or targets are not finite; it is read again."""
    inputs, targets = task.batch(split, indices)
    require_finite(inputs, indices, "inputs", split, task)
    if isinstance(targets, Tensor):
        require_finite(targets, indices, "targets", split, task)


def _add_example(stored: list[Tensor], statistics: Tensor, number: int, images: int) -> None:
    """Store the statistics of one more example, or add them to those of its group."""
    group = math.ceil(images * statistics.numel() / _MAX_STORED)
    if number % group:
        stored[-1] += statistics.cpu()
    else:
        stored.append(statistics[None].clone().cpu())


@dataclass(frozen=True)
class _Measured:
    """What was measured on one batch: sums, and if asked for the statistics and labels of its examples."""

    loss: float
    statistics: Tensor
    by_example: Tensor | None = None
    labels: Tensor | None = None


class _BatchMeasurer:
    """Measure batches.

    Args:
        model: The network, in evaluation mode.
        task: Loss and metric.
        stored: Number of examples whose statistics and labels are stored, or None.
    """

    def __init__(self, model: nn.Module, task: Task, stored: int | None) -> None:
        self._model, self._task, self._stored = model, task, stored
        self._layout: torch.memory_format | None = None

    def __call__(self, inputs: Tensor, targets: Any) -> _Measured:
        """Measure a batch."""
        task, model = self._task, self._model
        self._layout = self._layout or fastest_layout(model, inputs)
        inputs = inputs.contiguous(memory_format=self._layout)
        outputs = outputs_for(task, run_on_copy(model, inputs))
        statistics = task.statistics(outputs, targets)
        loss = float(measured_loss(task, model, inputs, targets, outputs)) * len(inputs)
        if self._stored is None:
            return _Measured(loss, statistics)
        group = math.ceil(self._stored * statistics.numel() / _MAX_STORED)
        pairs = zip(outputs.split(group), targets.split(group), strict=True)
        by_example = torch.stack([task.statistics(*pair) for pair in pairs]).cpu()
        has_labels = targets.ndim == 1 and not targets.is_floating_point()
        return _Measured(loss, statistics, by_example, targets.cpu() if has_labels else None)


def _shared_batches(
    task: Task,
    split: SplitName,
    batches: Sequence[Tensor],
    measured: Callable[[Tensor, Tensor], _Measured],
) -> Iterator[_Measured]:
    """Measure batches in turn on all ranks, and yield the results in the order of the batches on each rank.

    A batch is not divided, as the sums of parts would be rounded otherwise.
    """
    passed = Pass(split, batches, rank=rank(), ranks=ranks(), in_turn=True)
    own = (measured(*batch) for batch in stream(task, passed))
    for _ in range(0, len(batches), ranks()):
        with together():
            found = next(own, None)
        if ranks() > 1 and found is not None:
            found = replace(found, statistics=found.statistics.cpu())  # the others have other GPUs
        yield from (each for each in gather(found) if each is not None)


def class_accuracies(task: Task, measured: Measurement) -> dict[str, float | None]:
    """Compute the metric of each class by name, percent; None for a class without examples.

    Args:
        task: The task.
        measured: A measurement made with ``by_example``.

    Returns:
        Nothing if the task names no classes, or its examples have no label or no statistics of their own.
    """
    names, labels, statistics = class_names(task), measured.labels, measured.example_statistics
    if names is None or labels is None or statistics is None or len(labels) != len(statistics):
        return {}
    found: dict[str, float | None] = {}
    for index, name in enumerate(names):
        of_class = statistics[labels == index]
        found[name] = task.metric(of_class.sum(0)) if len(of_class) else None
    return found


def check_measured(measured: Measurement, what: str, where: str = "") -> None:
    """Refuse a measurement that is not finite.

    Args:
        measured: The measurement on val.
        what: Name of the network, for the message.
        where: The layer where the problem begins, for the message, or "".

    Raises:
        FloatingPointError: If the metric or the loss is infinite or undefined.
    """
    for kind, value in (("metric", measured.accuracy), ("loss", measured.loss)):
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the {kind} of {what} on val is {value}{where}: check the data, the weights, the loss and "
                "the metric"
            )
