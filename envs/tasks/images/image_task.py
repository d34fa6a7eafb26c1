"""The common base of tasks on images of classes: splits, classes, augmentation, normalisation.

Shapes: B images of a batch, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Self

import torch
from torch import Tensor

from ...io.wording import counted
from ..base import SplitName
from ..draws import uniform
from ..optional_members import distillation_loss
from ..passes import Pass
from ..read_ahead import read_ahead
from .splits import Split, joined, with_source
from .user_transforms import Transforms

_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class ImageTask(abc.ABC):
    """Give normalised images of K classes, from memory or from disk.

    Args:
        name: Name of the task for logs and reports.
        splits: Train, val and test, disjoint.
        classes: Names of the K classes.
        mean: Mean of each channel, subtracted from pixels in [0, 1]; none with transforms of one's own.
        std: Standard deviation of each channel, > 0, by which pixels are then divided; none likewise.
        workers: Processes that read images from disk ahead in a pass, at least 0; 0 reads them in this one.
        transforms: Transforms of one's own instead of resizing, augmentation and normalisation.
        storage: Where the images are, for the user.

    Raises:
        ValueError: If a part is missing, or shapes or channels do not match.
    """

    name: str
    splits: Mapping[SplitName, Split]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    workers: int = field(default=0, kw_only=True)
    transforms: Transforms | None = field(default=None, kw_only=True)
    storage: str = field(default="", kw_only=True)

    augments_to_floats: ClassVar[bool] = False
    """Whether augmented images are float32, four times as large."""

    def __post_init__(self) -> None:
        if set(self.splits) != set(_SPLITS):
            raise ValueError(f"a task has train, val and test, got {sorted(self.splits)}")
        if self.transforms is not None:
            return
        if len(shapes := {part.source.shape for part in self.splits.values()}) != 1:
            raise ValueError(f"a task has images of one shape, got {sorted(shapes)}")
        if not len(self.mean) == len(self.std) == self.input_shape[0]:
            raise ValueError(
                f"{counted(self.input_shape[0], 'channel needs', 'channels need')} as many means and "
                f"deviations, got {self.mean} and {self.std}"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image, (C, H, W)."""
        return self.transforms.shape if self.transforms else self.splits["train"].source.shape

    @property
    def num_outputs(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def size(self, split: SplitName) -> int:
        """Return the number of images of a split."""
        return len(self.splits[split])

    def to(self, device: torch.device | str) -> Self:
        """Return the same task with its images on a device; a source of several splits is moved once."""
        splits = with_source(self.splits, lambda source: source.to(device))
        return dataclasses.replace(self, splits=splits)

    def with_channels(self, channels: int) -> Self:
        """Return the task with its images in another number of channels, without their normalisation.

        Args:
            channels: 1 or 3; see :func:`.sources.with_channels`.
        """
        splits = with_source(self.splits, lambda source: source.with_channels(channels))
        return dataclasses.replace(self, splits=splits, mean=(0.0,) * channels, std=(1.0,) * channels)

    def with_val_in_train(self) -> Self:
        """Return the same task whose train also has the examples of val."""
        train = joined(self.splits["train"], self.splits["val"])
        return dataclasses.replace(self, splits={**self.splits, "train": train})

    def batch(
        self,
        split: SplitName,
        indices: Tensor,
        *,
        augment: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return images as float32 (B, C, H, W), normalised, and their targets, on the task's device.

        Args:
            split: The split.
            indices: Indices of the images, (B,) int64, in [0, size), on any device.
            augment: Whether to augment at random, as in training.
            generator: Random generator for that, on the CPU; None uses torch's global one. It gives one seed;
                an image's augmentation then depends on the seed and its index.

        Raises:
            DataError: If an image cannot be read.
        """
        seed = int(torch.randint(2**62, (), generator=generator)) if augment else None
        return self.finish(split, *self.prepare(split, indices, seed, 0))

    def loader(self, passed: Pass) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of a pass; images from disk are read ahead by other processes.

        Args:
            passed: The pass.

        Raises:
            DataError: If an image cannot be read.
        """
        seed = passed.seed if passed.augment else None
        if self.splits[passed.split].source.is_resident:
            for share in passed.shares:
                yield self.finish(passed.split, *self.prepare(passed.split, share, seed, passed.epoch))
            return
        reader = self.to("cpu")  # other processes may not touch a GPU
        prepare = partial(reader.prepare_ahead, passed.split, seed=seed, epoch=passed.epoch)
        is_pinned = self.splits[passed.split].source.device.type == "cuda"
        size = 4 if self.transforms or (passed.augment and self.augments_to_floats) else 1
        largest = max(map(len, passed.shares), default=0) * math.prod(self.input_shape) * size
        batches = read_ahead(prepare, passed.shares, self.workers, batch_bytes=largest, is_pinned=is_pinned)
        for images, targets in batches:
            yield self.finish(passed.split, images, targets)

    def prepare(
        self, split: SplitName, indices: Tensor, seed: int | None, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Read and augment images: what another process may do.

        Args:
            split: The split.
            indices: Indices of the images, (B,) int64.
            seed: Seed of the augmentation; None does not augment.
            epoch: Number of the epoch.

        Returns:
            Images (B, C, H, W), from 0 to 255 unless there are transforms, and their targets.
        """
        part = self.splits[split]
        if self.transforms is not None:
            return self.transforms.batch(part, indices, seed, epoch)
        images, targets = part.read(indices)
        if seed is None or self.augmentation == "none":
            return images, targets
        return self.augmented(images, targets, uniform(seed, epoch, indices, self.draws))

    def prepare_ahead(
        self, split: SplitName, indices: Tensor, seed: int | None, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Do :meth:`prepare` in another process, and give images the layout that most networks run best in.

        Bytes are a fourth of the floats that the main process would have to rearrange.
        """
        images, targets = self.prepare(split, indices, seed, epoch)
        if images.shape[1] > 1:  # one channel has both layouts
            images = images.contiguous(memory_format=torch.channels_last)
        return images, targets

    def finish(self, split: SplitName, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Move what was prepared to the task's device and normalise it."""
        device = self.splits[split].source.device
        images, targets = (tensor.to(device, non_blocking=True) for tensor in (images, targets))
        return (images if self.transforms else self.normalised(images)), targets.long()

    def normalised(self, images: Tensor) -> Tensor:
        """Normalise images (B, C, H, W) with values 0 to 255 to float32."""
        mean, std = (torch.tensor(v, device=images.device).view(-1, 1, 1) for v in (self.mean, self.std))
        return images.float().mul_(1 / (255 * std)).sub_(mean / std)

    def distillation(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Compare two networks' outputs (B, K, ...); see :func:`.distillation_loss`."""
        return distillation_loss(student, teacher, temperature)

    @property
    @abc.abstractmethod
    def augmentation(self) -> str:
        """Description of the augmentation of training images; "none" without one."""

    @property
    @abc.abstractmethod
    def draws(self) -> int:
        """Random numbers that the augmentation of an image needs."""

    @abc.abstractmethod
    def augmented(self, images: Tensor, targets: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Augment images (B, C, H, W) uint8 and their targets by random numbers (B, draws) in [0, 1)."""
