"""Disjoint train, val and test parts, as indices into a source: seeded and stratified by class.

Shapes: M examples of a split, B of a batch, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..base import SplitName
from .sources import Resident, Source

VAL_FRACTION = 0.1
"""Share of train that becomes a missing part."""

_TENSORS = ("images", "targets")
_HELD_OUT: tuple[SplitName, ...] = ("test", "val")


class TooFewError(ValueError):
    """There are too few images to split."""


@dataclass(frozen=True)
class Split:
    """A choice of the examples of a source, in an order.

    Args:
        source: The examples.
        indices: Indices into the source, (M,) int64, on the CPU.
    """

    source: Source
    indices: Tensor

    @classmethod
    def of(cls, source: Source) -> Split:
        """Choose all examples of a source."""
        return cls(source, torch.arange(len(source)))

    @classmethod
    def held(cls, images: Tensor, targets: Tensor) -> Split:
        """Choose all of some images (M, C, H, W) uint8 and labels (M,) int64 or masks (M, H, W) uint8."""
        return cls.of(Resident(images, targets))

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def strata(self) -> Tensor:
        """Strata for splitting, (M,) int64: each part gets the same share of each stratum."""
        return self.source.strata[self.indices]

    @property
    def images(self) -> Tensor:
        """All images (M, C, H, W) uint8, read into memory."""
        return self.read(torch.arange(len(self)))[0]

    @property
    def targets(self) -> Tensor:
        """All targets, read into memory: labels (M,) int64, or masks (M, H, W) uint8."""
        return self.source.read_targets(self.indices)

    def take(self, indices: Tensor) -> Split:
        """Choose the examples with these indices (K,) of the split, in that order; nothing is copied."""
        return Split(self.source, self.indices[indices.cpu()])

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Read images (B, C, H, W) uint8 and their targets.

        Args:
            indices: Indices into the split, (B,) int64.

        Raises:
            DataError: If an example cannot be read.
        """
        return self.source.read(self.indices[indices.cpu()])

    def described(self, index: int) -> str:
        """Name the example with an index, for messages: its file if it has one."""
        files = getattr(self.source, "files", None)
        return f"the example {index}" if files is None else str(files[int(self.indices[index])])

    def to(self, device: torch.device | str) -> Split:
        """Return the same examples, given on a device."""
        return Split(self.source.to(device), self.indices)


def with_source(
    splits: Mapping[SplitName, Split], change: Callable[[Source], Source]
) -> dict[SplitName, Split]:
    """Return the same choices of changed sources; a source of several splits is changed once."""
    changed = {id(part.source): part.source for part in splits.values()}
    changed = {key: change(source) for key, source in changed.items()}
    return {name: Split(changed[id(part.source)], part.indices) for name, part in splits.items()}


def joined(first: Split, second: Split) -> Split:
    """Return the examples of one split and then those of another.

    Splits of one source share it, as those of all data sets and folders do; others are copied into memory.
    """
    if first.source is second.source:
        return Split(first.source, torch.cat([first.indices, second.indices]))
    images, targets = (torch.cat([getattr(part, name) for part in (first, second)]) for name in _TENSORS)
    return Split.held(images, targets)


def stratified_split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split off a fraction of every class.

    Args:
        labels: Labels (N,) int64.
        fraction: Share to split off, in (0, 1). Of a class with two or more images, at least one is split off
            and at least one stays.
        seed: Seed for the choice.

    Returns:
        Ascending indices that stay, and ascending indices that are split off; together all of them.

    Raises:
        ValueError: If the fraction is not in (0, 1).
        TooFewError: If no class has two images.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the fraction of images to split off has to be between 0 and 1, got {fraction}")
    labels = labels.cpu()
    generator = torch.Generator().manual_seed(seed)
    taken = torch.zeros(len(labels), dtype=torch.bool)
    for members in labels.argsort(stable=True).split(labels.unique(return_counts=True)[1].tolist()):
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        taken[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    if not taken.any():
        raise TooFewError(f"{len(labels)} images are too few to split: every class needs at least two")
    return (~taken).nonzero().flatten(), taken.nonzero().flatten()


def complete_splits(
    given: Mapping[SplitName, Split],
    *,
    val_from: str = "train",
    val_fraction: float = VAL_FRACTION,
    seed: int = 0,
) -> tuple[dict[SplitName, Split], tuple[str, ...]]:
    """Make train, val and test from the existing parts; no image is in two of them.

    Args:
        given: The existing parts, train among them.
        val_from: How to make val and test if not both are given: "test" splits the given one in two halves,
            any other value splits the missing one from train. With "test", a given val is not used if there
            is a test.
        val_fraction: Share of train that becomes a missing part, in (0, 1).
        seed: Seed for splitting.

    Returns:
        The three parts, and sentences for the report about how they were made.

    Raises:
        ValueError: If there are too few images, or an argument is out of its range.
    """
    parts = dict(given)
    notes = []
    halved = next((name for name in _HELD_OUT if name in parts), None)
    if val_from == "test" and halved is not None:
        whole = parts[halved]
        test, val = stratified_split(whole.strata, 0.5, seed)
        is_unused = halved == "test" and "val" in parts
        unused = f" The {len(parts['val'])} images of val are not used." if is_unused else ""
        parts["test"], parts["val"] = whole.take(test), whole.take(val)
        notes.append(
            f"The {len(whole)} images of {halved} were split in two halves that are never mixed "
            f"(stratified, seed {seed}): {len(val)} as val, {len(test)} as test.{unused}"
        )
    for name in _HELD_OUT:
        if name not in parts:
            train = parts["train"]
            rest, taken = stratified_split(train.strata, val_fraction, seed)
            parts["train"], parts[name] = train.take(rest), train.take(taken)
            notes.append(
                f"The {len(taken)} images of {name} were taken out of train (stratified, seed {seed}): "
                "a network that was trained on all of train knows them."
            )
    notes.append(", ".join(f"{name} {len(parts[name])}" for name in ("train", "val", "test")) + " images.")
    return parts, tuple(notes)
