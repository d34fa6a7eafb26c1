"""Passes over a split: what fine-tuning and measuring read.

Bounded reads, such as those for statistics, call ``task.batch``. A pass may be over more examples than fit
into memory, so a task may read them ahead in its optional ``loader``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .draws import derived_seed

if TYPE_CHECKING:
    from .base import SplitName, Task


class DataError(OSError):
    """The data could not be read in the middle of a pass: a file vanished, or an image is damaged."""


@dataclass(frozen=True)
class Pass:
    """Describe one pass over examples of a split.

    Args:
        split: The split.
        batches: Indices of the examples of each batch, (B,) int64, of all ranks together, in order.
        augment: Whether to augment the inputs at random, as in training.
        seed: Seed of the augmentation. An example's random numbers are a function of the seed, the epoch and
            its index.
        epoch: Number of the epoch, from 0.
        first: Number of batches that were taken before an interruption.
        rank: Number of the process among those that share each batch.
        ranks: Number of these processes, at least 1.
        in_turn: Whether the processes take whole batches in turn, instead of a share of each.
    """

    split: SplitName
    batches: Sequence[Tensor]
    augment: bool = False
    seed: int = 0
    epoch: int = 0
    first: int = 0
    rank: int = 0
    ranks: int = 1
    in_turn: bool = False

    @property
    def shares(self) -> list[Tensor]:
        """Indices of this rank's examples in each batch that is left, at least one.

        Of a batch with fewer examples than ranks, the last ranks get the first example, with a weight of 0.
        In turn, only this rank's batches are listed.
        """
        left = self.batches[self.first :]
        if self.in_turn:
            return list(left[self.rank :: self.ranks])
        return [
            share if len(share) else batch[:1] for batch, share in zip(left, self._split(left), strict=True)
        ]

    @property
    def weights(self) -> list[float]:
        """This rank's examples as a share of each batch that is left; those of all ranks add up to 1."""
        left = self.batches[self.first :]
        return [len(share) / len(batch) for batch, share in zip(left, self._split(left), strict=True)]

    def _split(self, batches: Sequence[Tensor]) -> list[Tensor]:
        return [batch.tensor_split(self.ranks)[self.rank] for batch in batches]


def stream(task: Task, passed: Pass) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs and targets of each batch of a pass, on the task's device.

    Args:
        task: The task. Without a ``loader`` of its own, its batches are read one by one; their random numbers
            then depend on the batch, too.
        passed: The pass.

    Raises:
        DataError: If the data cannot be read.
    """
    loader = getattr(task, "loader", None)
    if loader is not None and not _overrides_batch_alone(task):
        yield from loader(passed)
        return
    for number, share in enumerate(passed.shares, start=passed.first):
        seed = derived_seed(passed.seed, passed.epoch, number, passed.rank)
        generator = torch.Generator().manual_seed(seed) if passed.augment else None
        yield task.batch(passed.split, share, augment=passed.augment, generator=generator)


def _overrides_batch_alone(task: Task) -> bool:
    """Return whether a subclass or a wrapper has a ``batch`` of its own that the inherited loader ignores."""
    if "loader" in vars(task):
        return False
    classes = [
        next((c for c in type(task).__mro__ if name in vars(c)), object) for name in ("batch", "loader")
    ]
    return classes[0] is not classes[1] and issubclass(*classes)


def spread(size: int, count: int) -> Tensor:
    """Return at most so many indices, evenly spread, with the first and the last: data may be sorted."""
    return torch.linspace(0, size - 1, min(size, count), dtype=torch.float64).round().long()
