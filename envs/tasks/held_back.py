"""One half of val for the search, the other for judging what the search has found.

Rewards, and every choice that is made by them, favour what fits their images by chance. Images that took no
part say how good the choice is.

Shapes: V examples of val, B examples of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..io.wording import counted
from .base import SplitName, Task
from .delegation import DelegatingTask
from .images.splits import Split, TooFewError, stratified_split
from .optional_members import inputs_at_hand, targets_at_hand
from .passes import Pass, stream

FEWEST = 512
"""Examples of val from which on it is halved, so that a half has as many as a candidate is measured on. The
difference of two networks that disagree on a tenth of 256 images is known to two points."""


@dataclass(frozen=True)
class Halves:
    """A task with the halves of its val.

    Args:
        search: The task whose val is the first half: for rewards and the first choice.
        judge: The task whose val is the other half.
        note: What is said about them in the report.
    """

    search: Task
    judge: Task
    note: str

    @property
    def are_apart(self) -> bool:
        """Whether the halves are disjoint; else both are all of val, which has too few examples."""
        return self.search is not self.judge


def hold_back(task: Task, seed: int = 0) -> Halves:
    """Split val into a half for the search and one for judging; train and test stay as they are.

    The halves are stratified by class where the classes are at hand without reading inputs, else random. With
    fewer than 512 examples both are all of val.

    Args:
        task: The task.
        seed: Seed of the split.
    """
    size = task.size("val")
    if size < FEWEST:
        note = (
            f"val has only {counted(size, 'example')}, fewer than {FEWEST}: the finalists are compared on "
            "those that the search has seen, too."
        )
        return Halves(task, task, note)
    search, judge = _halves(task, size, seed)
    note = (
        f"val was halved (seed {seed}): {counted(len(search), 'example')} for the search and {len(judge)}, "
        "which it never saw, for comparing the finalists."
    )
    return Halves(_PartOfVal(task, search), _PartOfVal(task, judge), note)


def _halves(task: Task, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return ascending indices of both halves of val, which has that size."""
    strata = _strata(task)
    if strata is not None:
        try:
            return stratified_split(strata, 0.5, seed)
        except TooFewError:  # each example is a class of its own
            pass
    return stratified_split(torch.zeros(size, dtype=torch.int64), 0.5, seed)


def _strata(task: Task) -> Tensor | None:
    """Return a stratum (V,) int64 for each example of val, or None if reading inputs is needed for that."""
    splits = getattr(task, "splits", None)
    part = splits.get("val") if isinstance(splits, dict) else None
    if isinstance(part, Split):
        return part.strata
    targets = targets_at_hand(task, "val")
    is_class = isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point()
    return targets.long() if is_class and targets is not None else None


class _PartOfVal(DelegatingTask):
    """Restrict val to some examples. All other members are those of the task.

    Args:
        task: The task.
        indices: Indices of the examples in the task's val, (V,) int64, on the CPU.
    """

    def __init__(self, task: Task, indices: Tensor) -> None:
        super().__init__(task)
        self._indices = indices

    def size(self, split: SplitName) -> int:
        """Return the number of examples of a split."""
        return len(self._indices) if split == "val" else self._task.size(split)

    def batch(
        self,
        split: SplitName,
        indices: Tensor,
        *,
        augment: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return examples; see :class:`.base.Task`."""
        return self._task.batch(split, self._in_task(split, indices), augment=augment, generator=generator)

    def loader(self, passed: Pass) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of a pass."""
        batches = [self._in_task(passed.split, batch) for batch in passed.batches]
        yield from stream(self._task, replace(passed, batches=batches))

    def all_targets(self, split: SplitName) -> Tensor | None:
        """Return all targets of a split, if they are at hand without reading inputs."""
        targets = targets_at_hand(self._task, split)
        return targets[self._indices] if split == "val" and targets is not None else targets

    def all_inputs(self, split: SplitName) -> Tensor | None:
        """Return all inputs of a split that is held in memory; those of a part would be copied."""
        return None if split == "val" else inputs_at_hand(self._task, split)

    def to(self, device: torch.device | str) -> _PartOfVal:
        """Return the same task with its data on a device."""
        return _PartOfVal(self._task.to(device), self._indices)  # type: ignore[attr-defined]

    def _in_task(self, split: SplitName, indices: Tensor) -> Tensor:
        return self._indices[indices.cpu()] if split == "val" else indices
