"""Sources of examples: images and targets that are read by their index.

A source has all examples of a data set, whether in memory or on disk; a :class:`.splits.Split` is a choice of
its indices.

Shapes: N examples of a source, B of a batch, C channels, H and W pixels.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize, rgb_to_grayscale

_PIXELS_AT_A_TIME = 2**22
"""Pixels to resize at a time: some CPUs need a float32 copy of them."""


class Source(Protocol):
    """Images as bytes with their targets: labels (N,) int64, or masks (N, H, W) uint8."""

    @property
    def is_resident(self) -> bool:
        """Whether reading costs next to nothing, so that no process has to read ahead."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image, (C, H, W)."""

    @property
    def strata(self) -> Tensor:
        """Strata for splitting, (N,) int64 on the CPU: each part gets the same share of each stratum."""

    @property
    def device(self) -> torch.device:
        """Device on which examples are given."""

    def __len__(self) -> int: ...

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Read images (B, C, H, W) uint8 and their targets.

        Args:
            indices: Indices of the examples, (B,) int64, on any device.

        Raises:
            DataError: If an example cannot be read.
        """

    def read_one(self, index: int) -> tuple[Tensor, Tensor]:
        """Read an image (C, h, w) uint8 as it was stored, of any size, and its target."""

    def read_targets(self, indices: Tensor) -> Tensor:
        """Read the targets alone."""

    def to(self, device: torch.device | str) -> Self:
        """Return the same source, which gives its examples on a device."""

    def with_channels(self, channels: int) -> Self:
        """Return the same images in 1 or 3 channels; see :func:`with_channels`."""


@dataclass(frozen=True)
class Resident:
    """Examples held in memory.

    Args:
        images: Images (N, C, H, W) uint8.
        targets: Labels (N,) int64, or masks (N, H, W) uint8 with class indices or the ignore label.

    Raises:
        ValueError: If a shape or data type is wrong.
    """

    images: Tensor
    targets: Tensor

    is_resident: ClassVar[bool] = True

    def __post_init__(self) -> None:
        images, targets = self.images, self.targets
        if images.dtype != torch.uint8 or images.dim() != 4:
            raise ValueError(f"images are (N, C, H, W) uint8, got {tuple(images.shape)} {images.dtype}")
        count, _, height, width = images.shape
        kind = (targets.dtype, tuple(targets.shape))
        if kind not in ((torch.int64, (count,)), (torch.uint8, (count, height, width))):
            raise ValueError(
                f"targets are labels ({count},) int64 or masks ({count}, {height}, {width}) uint8, got "
                f"{tuple(targets.shape)} {targets.dtype}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image, (C, H, W)."""
        return tuple(self.images.shape[1:])

    @property
    def strata(self) -> Tensor:
        """The labels; one stratum for images with masks, as each has many classes."""
        return self.targets.cpu() if self.targets.dim() == 1 else torch.zeros(len(self), dtype=torch.int64)

    @property
    def device(self) -> torch.device:
        """Device of the images."""
        return self.images.device

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images (B, C, H, W) uint8 and their targets."""
        indices = indices.to(self.device)
        return self.images[indices], self.targets[indices]

    def read_one(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image (C, H, W) uint8 and its target."""
        return self.images[index], self.targets[index]

    def read_targets(self, indices: Tensor) -> Tensor:
        """Return the targets alone."""
        return self.targets[indices.to(self.device)]

    def to(self, device: torch.device | str) -> Resident:
        """Return the same examples on a device."""
        return Resident(self.images.to(device), self.targets.to(device))

    def with_channels(self, channels: int) -> Resident:
        """Return the same images in 1 or 3 channels; repeated channels share their memory."""
        return Resident(with_channels(self.images, channels), self.targets)


@dataclass(frozen=True)
class Resized:
    """Examples in memory whose images are resized to squares when they are read.

    Args:
        source: The examples, with labels.
        side: Height and width of the results, pixels.
    """

    source: Resident
    side: int

    @property
    def is_resident(self) -> bool:
        """Whether a GPU resizes the images."""
        return self.device.type == "cuda"

    def __len__(self) -> int:
        return len(self.source)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image, (C, H, W)."""
        return (self.source.shape[0], self.side, self.side)

    @property
    def strata(self) -> Tensor:
        """The labels."""
        return self.source.strata

    @property
    def device(self) -> torch.device:
        """Device of the images."""
        return self.source.device

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images (B, C, H, W) uint8 and their labels, resized a few at a time."""
        images, labels = self.source.read(indices)
        results = images.new_empty((len(images), *self.shape))
        count = max(1, _PIXELS_AT_A_TIME // self.side**2)
        for few, result in zip(images.split(count), results.split(count), strict=True):
            result.copy_(resize(few, [self.side, self.side], antialias=True))
        return results, labels

    def read_one(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image (C, H, W) uint8 and its label."""
        images, labels = self.read(torch.tensor([index]))
        return images[0], labels[0]

    def read_targets(self, indices: Tensor) -> Tensor:
        """Return the labels alone."""
        return self.source.read_targets(indices)

    def to(self, device: torch.device | str) -> Resized:
        """Return the same examples on a device."""
        return dataclasses.replace(self, source=self.source.to(device))

    def with_channels(self, channels: int) -> Resized:
        """Return the same images in 1 or 3 channels."""
        return dataclasses.replace(self, source=self.source.with_channels(channels))


def with_channels(images: Tensor, channels: int | None) -> Tensor:
    """Return images with 1 or 3 channels: grey images are repeated, colours become their luminance.

    Args:
        images: Images (..., C, H, W) uint8, C is 1 or 3.
        channels: Channels of the result; None keeps them. Repeated channels share their memory.

    Raises:
        ValueError: If there is no conversion.
    """
    given = images.shape[-3]
    if channels is None or channels == given:
        return images
    if (given, channels) == (1, 3):
        return images.expand(*images.shape[:-3], 3, -1, -1)
    if (given, channels) == (3, 1):
        return rgb_to_grayscale(images)
    raise ValueError(f"images of {given} channels cannot have {channels}: give 1 or 3")
