"""How the training images are divided into steps, and steps into passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..tasks.base import Task
from ..tasks.optional_members import batch_size_for
from .config import RecoveryConfig

_MOST_LEFT = 0.1
"""Largest share of the training images that an epoch may leave out."""


@dataclass(frozen=True)
class Batching:
    """The division of an epoch.

    Args:
        images: Images per pass.
        passes: Passes per step, whose gradients are averaged.
        steps: Steps per epoch. The images that are left are not used: a smaller batch would disturb
            batch-norm.
    """

    images: int
    passes: int
    steps: int

    @classmethod
    def of(cls, task: Task, config: RecoveryConfig) -> Batching:
        """Divide the training images of a task; with few images, passes get smaller."""
        size = task.size("train")
        passes = max(1, min(config.accumulation_steps, size))
        images = max(1, min(batch_size_for(task, config.batch_size), size // passes))
        steps, left = divmod(size, images * passes)
        if steps and left > _MOST_LEFT * size:  # in smaller passes hardly any image is left
            steps += 1
            images = size // (steps * passes)
        return cls(images, passes, max(1, steps))

    @property
    def images_per_step(self) -> int:
        """Images whose gradient a step follows."""
        return self.images * self.passes

    def of_epoch(self, order: Tensor, steps: int) -> Sequence[Tensor]:
        """Split the images of an epoch, (N,) int64 in order, into the batches of the passes of its steps."""
        return order.split(self.images)[: steps * self.passes]
