"""How the training images are divided into steps, and steps into passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from torch import Tensor

from ..tasks.base import Task
from ..tasks.optional_members import batch_size_for
from .config import RecoveryConfig


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
        size, passes = task.size("train"), config.accumulation_steps
        images = max(1, min(batch_size_for(task, config.batch_size), size // passes))
        return cls(images, passes, max(1, size // (images * passes)))

    @property
    def images_per_step(self) -> int:
        """Images whose gradient a step follows."""
        return self.images * self.passes

    def losses(self, loss: Callable[[Any, Any], Tensor], inputs: Any, targets: Any) -> Iterator[Tensor]:
        """Yield the loss of each pass, weighted by its share of the images; their sum is the step's loss.

        Args:
            loss: Function from inputs and targets of a pass to their mean loss.
            inputs: Inputs of a step: a tensor, a list of examples, or a mapping of these.
            targets: Targets of the step, likewise.
        """
        if self.passes == 1:
            yield loss(inputs, targets)
            return
        whole = _length(inputs)
        for part, of_part in zip(_split(inputs, self.passes), _split(targets, self.passes), strict=True):
            if count := _length(part):
                yield loss(part, of_part) * (count / whole)


def _length(batch: Any) -> int:
    return _length(next(iter(batch.values()))) if isinstance(batch, Mapping) else len(batch)


def _split(batch: Any, parts: int) -> list[Any]:
    """Split a batch as ``Tensor.tensor_split`` does."""
    if isinstance(batch, Tensor):
        return list(batch.tensor_split(parts))
    if isinstance(batch, Mapping):
        split = {key: _split(value, parts) for key, value in batch.items()}
        return [{key: values[number] for key, values in split.items()} for number in range(parts)]
    size, larger = divmod(len(batch), parts)
    bounds = accumulate((size + (number < larger) for number in range(parts)), initial=0)
    return [batch[low:high] for low, high in pairwise(bounds)]
