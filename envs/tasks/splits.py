"""Disjoint train, val and test parts: seeded and stratified by class.

Shapes: N images, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from .base import SplitName

VAL_FRACTION = 0.1
"""Share of train that becomes a missing part."""

_HELD_OUT: tuple[SplitName, ...] = ("test", "val")


class TooFewError(ValueError):
    """There are too few images to split."""


@dataclass(frozen=True)
class Split:
    """Images and labels held in memory.

    Args:
        images: Images (N, C, H, W) uint8.
        labels: Labels (N,) int64.

    Raises:
        ValueError: If a shape or data type is wrong.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.dim() != 4:
            raise ValueError(
                f"images are (N, C, H, W) uint8, got {tuple(self.images.shape)} {self.images.dtype}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"labels are ({len(self.images)},) int64, got {tuple(self.labels.shape)} {self.labels.dtype}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def strata(self) -> Tensor:
        """Strata for splitting: the labels (N,)."""
        return self.labels

    def take(self, indices: Tensor) -> Split:
        """Return the images with the indices (M,), in that order."""
        return Split(self.images[indices], self.labels[indices])

    def to(self, device: torch.device | str) -> Split:
        """Return the same images on a device."""
        return Split(self.images.to(device), self.labels.to(device))


class Part(Protocol):
    """Examples of a data set that can be split."""

    def __len__(self) -> int: ...

    @property
    def strata(self) -> Tensor:
        """Strata for splitting, (N,) int64: each part gets the same share of each stratum."""

    def take(self, indices: Tensor) -> Self:
        """Return the examples with these indices."""


AnyPart = TypeVar("AnyPart", bound=Part)


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
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        taken[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    if not taken.any():
        raise TooFewError(f"{len(labels)} images are too few to split: every class needs at least two")
    return (~taken).nonzero().flatten(), taken.nonzero().flatten()


def complete_splits(
    given: Mapping[SplitName, AnyPart],
    *,
    val_from: str = "train",
    val_fraction: float = VAL_FRACTION,
    seed: int = 0,
) -> tuple[dict[SplitName, AnyPart], tuple[str, ...]]:
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
