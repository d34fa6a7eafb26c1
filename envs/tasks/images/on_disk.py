"""Examples on disk: image files with labels or masks, decoded when they are read.

Shapes: N examples, B of a batch, C channels, H and W pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from ..passes import DataError
from .file_list import FileList
from .image_files import Decoder
from .sources import Resident, with_channels

CPU = torch.device("cpu")

_CHUNK = 16
"""Files that a thread reads at a time."""


class Targets(Protocol):
    """Targets of examples on disk: :class:`Labels`, or :class:`.masks.Masks`."""

    bytes_per_pixel: ClassVar[int]
    """Memory for a target, bytes per pixel of an image."""

    @property
    def strata(self) -> Tensor:
        """Strata for splitting, (N,) int64."""

    def empty(self, count: int, shape: tuple[int, ...]) -> Tensor:
        """Allocate memory for the targets of that many images of a height and width."""

    def read(self, index: int) -> Tensor:
        """Read one target, fitted to the size of the images in a batch."""

    def read_one(self, index: int) -> Tensor:
        """Read one target as it was stored."""


@dataclass(frozen=True)
class Labels:
    """A label for each image.

    Args:
        values: The labels, (N,) int64.
    """

    values: Tensor

    bytes_per_pixel: ClassVar[int] = 0

    @property
    def strata(self) -> Tensor:
        """The labels."""
        return self.values

    def empty(self, count: int, shape: tuple[int, ...]) -> Tensor:
        """Allocate memory for labels, (count,) int64."""
        return torch.empty(count, dtype=torch.int64)

    def read(self, index: int) -> Tensor:
        """Return a label."""
        return self.values[index]

    read_one = read


@dataclass(frozen=True)
class ImageFiles:
    """Image files with their targets.

    Args:
        files: The N files.
        targets_on_disk: Their targets.
        decoder: Decodes the images.
        threads: Threads that read a batch, at least 1; a process that reads ahead uses one.
        channels: Channels of the images, 1 or 3; None is those of the decoder.
        device: Device on which examples are given.
    """

    files: FileList
    targets_on_disk: Targets
    decoder: Decoder
    threads: int = 1
    channels: int | None = None
    device: torch.device = CPU

    is_resident: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image, (C, H, W), if the decoder gives images of one size."""
        assert self.decoder.size is not None
        width, height = self.decoder.size
        return (self.channels or len(self.decoder.mode), height, width)

    @property
    def strata(self) -> Tensor:
        """Strata for splitting, (N,) int64."""
        return self.targets_on_disk.strata

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Decode images (B, C, H, W) uint8 and their targets.

        Raises:
            DataError: If a file cannot be read.
        """
        images, targets = self._empty(len(indices))
        self._fill(images, targets, torch.arange(len(indices)), indices)
        return images.to(self.device), targets.to(self.device)

    def read_one(self, index: int) -> tuple[Tensor, Tensor]:
        """Decode an image (C, h, w) uint8 of any size, and its target."""
        return self.decoder.decoded(self.files[index]), self.targets_on_disk.read_one(index)

    def read_targets(self, indices: Tensor) -> Tensor:
        """Read the targets alone."""
        size = self.shape[1:] if self.decoder.size else ()  # masks of their own sizes cannot be joined
        targets = self.targets_on_disk.empty(len(indices), size)

        def fill(place: int, index: int) -> None:
            targets[place] = self.targets_on_disk.read(index)

        self._each(fill, torch.arange(len(indices)), indices)
        return targets.to(self.device)

    def held(self, indices: Tensor) -> Resident:
        """Read examples into memory; all others stay undefined and take no memory.

        Args:
            indices: Indices of the examples to read, (M,) int64.

        Raises:
            ValueError: If a file cannot be read.
        """
        images, targets = self._empty(len(self))
        try:
            self._fill(images, targets, indices, indices)
        except DataError as error:  # no job has begun that could be resumed
            raise ValueError(str(error)) from error
        return Resident(images, targets)

    def to(self, device: torch.device | str) -> Self:
        """Return the same source, which gives its examples on a device."""
        return dataclasses.replace(self, device=torch.device(device))

    def with_channels(self, channels: int) -> Self:
        """Return the same images in 1 or 3 channels."""
        return dataclasses.replace(self, channels=channels)

    def _empty(self, count: int) -> tuple[Tensor, Tensor]:
        images = torch.empty((count, *self.shape), dtype=torch.uint8)
        return images, self.targets_on_disk.empty(count, self.shape[1:])

    def _fill(self, images: Tensor, targets: Tensor, places: Tensor, indices: Tensor) -> None:
        """Decode the examples at the indices into places of both tensors."""

        def fill(place: int, index: int) -> None:
            images[place] = with_channels(self.decoder(self.files[index]), self.shape[0])
            targets[place] = self.targets_on_disk.read(index)

        self._each(fill, places, indices)

    def _each(self, act: Callable[..., object], *numbers: Tensor) -> None:
        """Call a function with each row of numbers, in several threads but in a process that reads ahead."""
        rows = list(zip(*(column.tolist() for column in numbers), strict=True))
        chunks = [rows[i : i + _CHUNK] for i in range(0, len(rows), _CHUNK)]

        def act_on(chunk: list[tuple[int, ...]]) -> None:
            for row in chunk:
                act(*row)

        threads = 1 if get_worker_info() else min(self.threads, len(chunks))
        if threads <= 1:
            act_on(rows)
            return
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(act_on, chunks):
                pass  # raises the exceptions of threads
