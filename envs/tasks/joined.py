"""Training on the examples of val, too, after the choice that val is for.

Shapes: B examples of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from .base import SplitName, Task
from .delegation import DelegatingTask
from .passes import Pass, stream


def with_val_in_train(task: Task) -> Task:
    """Return a task whose train has the examples of val, too, after its own; val and test stay as they are.

    Args:
        task: The task. Its member ``with_val_in_train`` is used if it has one.
    """
    own = getattr(task, "with_val_in_train", None)
    joined: Task = own() if own is not None else _Joined(task)
    return joined


class _Joined(DelegatingTask):
    """Join the batches of train and val. All other members are those of the task.

    Args:
        task: The task.
    """

    def size(self, split: SplitName) -> int:
        """Return the number of examples of a split."""
        return sum(self._task.size(part) for part in _parts(split))

    def batch(
        self,
        split: SplitName,
        indices: Tensor,
        *,
        augment: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return examples; see :class:`.base.Task`. Those of val follow those of train."""
        if split != "train":
            return self._task.batch(split, indices, augment=augment, generator=generator)
        batches = {
            part: self._task.batch(part, chosen, augment=augment, generator=generator)
            for part, chosen in self._by_part(indices).items()
        }
        return self._in_order(indices, batches)

    def to(self, device: torch.device | str) -> _Joined:
        """Return the same task with its data on a device."""
        return _Joined(self._task.to(device))  # type: ignore[attr-defined]

    def loader(self, passed: Pass) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of a pass; those of train and val are read ahead separately."""
        if passed.split != "train":
            yield from stream(self._task, passed)
            return
        shares = replace(passed, first=0).shares  # also those before an interruption, as batches are counted
        by_part = [self._by_part(share) for share in shares]
        streams = {}
        for part in _parts("train"):
            batches = [chosen[part] for chosen in by_part if part in chosen]
            first = sum(part in chosen for chosen in by_part[: passed.first])
            own = replace(passed, split=part, batches=batches, first=first, rank=0, ranks=1)
            streams[part] = stream(self._task, own)
        for indices, chosen in list(zip(shares, by_part, strict=True))[passed.first :]:
            yield self._in_order(indices, {part: next(streams[part]) for part in chosen})

    def _by_part(self, indices: Tensor) -> dict[SplitName, Tensor]:
        """Sort indices of the joined train by the part that has them; parts without any are left out."""
        size = self._task.size("train")
        found: dict[SplitName, Tensor] = {
            "train": indices[indices < size],
            "val": indices[indices >= size] - size,
        }
        return {part: chosen for part, chosen in found.items() if len(chosen)} or {"train": indices}

    def _in_order(
        self, indices: Tensor, batches: dict[SplitName, tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Put the examples of both parts into the order of the indices."""
        if len(batches) == 1:
            return next(iter(batches.values()))
        is_val = (indices >= self._task.size("train")).cpu()
        places = is_val.to(torch.uint8).argsort(stable=True).argsort()
        inputs, targets = (torch.cat(parts) for parts in zip(*batches.values(), strict=True))
        return inputs[places.to(inputs.device)], targets[places.to(targets.device)]


def _parts(split: SplitName) -> tuple[SplitName, ...]:
    return ("train", "val") if split == "train" else (split,)
