"""The contract of a task, and measuring a network on it.

Shapes: B examples of a batch, C channels, H and W pixels.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from ..modules.outputs import main_output
from .optional_members import details_of, measuring_batch

_MOST_KEPT = 2**24
"""Numbers that are kept of all examples together."""

SplitName = Literal["train", "val", "test"]


class Task(Protocol):
    """What is pruned on what: data, loss and metric.

    Small on purpose: a task of one's own needs just these members, and has most of them from
    :class:`.tensors.TensorTask`. It may have more, which others do without:

    * ``metric_name: str`` for reports, else "accuracy";
    * ``details(statistics) -> dict[str, float | None]``, the metric of each class or output by name, percent,
      None where it is undefined: a table in the report;
    * ``distillation(student, teacher, temperature) -> Tensor``, a differentiable scalar that compares the
      outputs of two networks, else their mean squared error;
    * ``largest_batch: int``, the most examples in one pass, for large images;
    * ``to(device)``, which gives the same task with its data there, else batches are moved one by one.
    """

    @property
    def name(self) -> str:
        """Name the task for logs and reports."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Give the shape of one example, (C, H, W)."""

    @property
    def num_outputs(self) -> int:
        """Give the outputs a network needs: classes, labels, or numbers to predict."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Give sentences for the report: how the splits were made, what to beware of."""

    def size(self, split: SplitName) -> int:
        """Count the examples of a split."""

    def batch(
        self,
        split: SplitName,
        indices: Tensor,
        *,
        augment: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Give examples as normalised float32 inputs (B, C, H, W) and targets, on the task's device.

        Args:
            split: Where to take them from.
            indices: (B,) int64, in [0, size), on any device.
            augment: Vary the inputs at random as in training.
            generator: Source of that randomness, on the CPU; None takes torch's global one.
        """

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Give the mean loss of a batch: a differentiable scalar. The outputs are float32."""

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Give what the metric needs to know of a batch, such that batches add up."""

    def metric(self, statistics: Tensor) -> float:
        """Turn summed statistics into percent, higher is better."""


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
            outputs = main_output(model(inputs.contiguous(memory_format=layout)))
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


@contextlib.contextmanager
def restored_modes(model: nn.Module) -> Iterator[None]:
    """Put every module back into the mode, training or evaluation, that it had before."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def fastest_layout(model: nn.Module, inputs: Tensor) -> torch.memory_format:
    """Choose channels-last, 2.7 times faster on CPUs, where the network can compute in it.

    A ``view`` of feature maps, common in handwritten networks, fails on channels-last tensors.

    Args:
        model: The network, in evaluation mode so that trying it leaves no trace.
        inputs: (B, ...) of which two examples are tried.
    """
    if inputs.dim() != 4:
        return torch.contiguous_format
    try:
        with torch.no_grad():
            model(inputs[:2].contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        return torch.contiguous_format
    return torch.channels_last
