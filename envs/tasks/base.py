"""The interface of tasks.

Shapes: B examples of a batch, C channels, H and W pixels.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

SplitName = Literal["train", "val", "test"]


class Task(Protocol):
    """Define the data, the loss and the metric for pruning a network.

    The interface is small on purpose. A user's task needs only these members; :class:`.tensors.TensorTask`
    implements most of them. These members are optional:

    * ``metric_name: str``: name of the metric in reports, by default "accuracy".
    * ``details(statistics) -> dict[str, float | None]``: the metric of each class or output by name, percent,
      None if undefined. The report shows it as a table.
    * ``distillation(student, teacher, temperature) -> Tensor``: a differentiable scalar that compares the
      outputs of two networks, by default their mean squared error.
    * ``training_loss(model, inputs, targets) -> Tensor``: a differentiable scalar, the mean loss of a step.
      It calls the network, which is in training mode, as ``model(...)``, with what else that needs. By
      default the loss of the main output, and 0.3 times that of each other output of its shape.

      A task that has it may leave out ``loss``: the network computes its losses itself, as a detector does,
      on val too. Then ``statistics`` gets all that the network gives back in evaluation mode, and targets may
      be anything, such as a list with the boxes of each image.
    * ``smoothed_loss(outputs, targets, label_smoothing) -> Tensor``: the loss with label smoothing, for tasks
      with classes; without it label smoothing is refused.
    * ``with_val_in_train()``: returns the same task with the examples of val added to train, for recovery
      after the choice; by default the batches of both are joined.
    * ``classes``: names of the classes, in the order of the outputs, for reports and exported files.
    * ``augmentation: str``: description of the augmentation of training images, for the report.
    * ``largest_batch: int``: largest number of examples in one pass, for large images.
    * ``loader(passed: Pass) -> Iterable[tuple[Tensor, Tensor]]``: yields what ``batch`` would return for each
      batch of a pass over a split, read ahead; see :class:`.passes.Pass`. Fine-tuning and measuring read so.
    * ``all_targets(split) -> Tensor | None``: all targets of a split, if they are at hand without reading
      inputs; all labels are checked then before a search, else those of a few examples.
    * ``all_inputs(split) -> Tensor | None``: the same for inputs that are held in memory.
    * ``to(device)``: returns the same task with its data on a device; by default batches are moved one by
      one.
    """

    @property
    def name(self) -> str:
        """Name of the task for logs and reports."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, (C, H, W)."""

    @property
    def num_outputs(self) -> int:
        """Number of outputs that a network needs: classes, labels, or numbers to predict."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the report, such as how the splits were made."""

    def size(self, split: SplitName) -> int:
        """Return the number of examples of a split."""

    def batch(
        self,
        split: SplitName,
        indices: Tensor,
        *,
        augment: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return examples as normalised float32 inputs (B, C, H, W) and targets, on the task's device.

        Args:
            split: The split.
            indices: Indices of the examples, (B,) int64, in [0, size), on any device.
            augment: Whether to augment the inputs at random, as in training.
            generator: Random generator for that, on the CPU; None uses torch's global one.
        """

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch, a differentiable scalar. The outputs are float32."""

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sums that the metric is computed from; those of several batches are added."""

    def metric(self, statistics: Tensor) -> float:
        """Compute the metric from summed statistics, percent, higher is better."""
