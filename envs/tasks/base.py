"""The contract of a task, and measuring a network on it.

Shapes: B examples of a batch, C channels, H and W pixels.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

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
