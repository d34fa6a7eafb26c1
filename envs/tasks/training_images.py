"""Training images for statistics: a bounded number of them, drawn by a seed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .base import Task
from .optional_members import measuring_batch

_BATCH = 128
"""Largest number of images of a batch."""


def drawn_inputs(task: Task, images: int, seed: int) -> Iterator[Tensor]:
    """Yield batches of training images, augmented as in training.

    Args:
        task: The task with the training images; labels are not used.
        images: Number of images, at least 0; all if there are fewer.
        seed: Seed for the choice of images and their augmentation.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(task.size("train"), generator=generator)[:images]
    for part in chosen.split(measuring_batch(task, _BATCH)) if images else ():
        inputs, _ = task.batch("train", part, augment=True, generator=generator)
        yield inputs
