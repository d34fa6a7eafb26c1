"""The common base of tasks on images held in memory: splits, classes, normalisation.

Shapes: B images of a batch, C channels, H and W pixels, K classes.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import rgb_to_grayscale

from .base import SplitName
from .optional_members import distillation_loss


def with_channels(images: Tensor, channels: int | None) -> Tensor:
    """Return images with 1 or 3 channels: grey images are repeated, colours become their luminance.

    Args:
        images: Images (N, C, H, W) uint8, C is 1 or 3.
        channels: Channels of the result; None keeps them. Repeated channels share their memory.

    Raises:
        ValueError: If there is no conversion.
    """
    if channels is None or channels == images.shape[1]:
        return images
    if (images.shape[1], channels) == (1, 3):
        return images.expand(-1, 3, -1, -1)
    if (images.shape[1], channels) == (3, 1):
        return rgb_to_grayscale(images)
    raise ValueError(f"images of {images.shape[1]} channels cannot have {channels}: give 1 or 3")


class _Part(Protocol):
    """Images and their targets."""

    @property
    def images(self) -> Tensor: ...

    def __len__(self) -> int: ...

    def take(self, indices: Tensor) -> Self: ...

    def to(self, device: torch.device | str) -> Self: ...


Part = TypeVar("Part", bound=_Part)


@dataclass(frozen=True)
class ImageTask(Generic[Part]):
    """Hold normalised images of K classes.

    Args:
        name: Name of the task for logs and reports.
        splits: Train, val and test, disjoint.
        classes: Names of the K classes.
        mean: Mean of each channel, subtracted from pixels in [0, 1].
        std: Standard deviation of each channel, > 0, by which pixels are then divided.

    Raises:
        ValueError: If a part is missing, or shapes or channels do not match.
    """

    name: str
    splits: Mapping[SplitName, Part]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        shapes = {part.images.shape[1:] for part in self.splits.values()}
        if set(self.splits) != {"train", "val", "test"} or len(shapes) != 1:
            raise ValueError(
                f"a task has train, val and test with images of one shape, got {sorted(self.splits)} with "
                f"{sorted(tuple(shape) for shape in shapes)}"
            )
        if not len(self.mean) == len(self.std) == self.input_shape[0]:
            raise ValueError(
                f"{self.input_shape[0]} channels need as many means and deviations, "
                f"got {self.mean} and {self.std}"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image, (C, H, W)."""
        return tuple(self.splits["train"].images.shape[1:])

    @property
    def num_outputs(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def size(self, split: SplitName) -> int:
        """Return the number of images of a split."""
        return len(self.splits[split])

    def to(self, device: torch.device | str) -> Self:
        """Return the same task with its images on a device."""
        return dataclasses.replace(self, splits={n: part.to(device) for n, part in self.splits.items()})

    def with_channels(self, channels: int) -> Self:
        """Return the task with its images in another number of channels, without their normalisation.

        Args:
            channels: 1 or 3; see :func:`with_channels`.
        """
        converted = {
            name: dataclasses.replace(part, images=with_channels(part.images, channels))  # type: ignore[type-var]
            for name, part in self.splits.items()
        }
        return dataclasses.replace(self, splits=converted, mean=(0.0,) * channels, std=(1.0,) * channels)

    def normalised(self, images: Tensor) -> Tensor:
        """Normalise images (B, C, H, W) with values 0 to 255 to float32."""
        mean, std = (torch.tensor(v, device=images.device).view(-1, 1, 1) for v in (self.mean, self.std))
        return images.float().mul_(1 / (255 * std)).sub_(mean / std)

    def distillation(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Compare two networks' outputs (B, K, ...); see :func:`.distillation_loss`."""
        return distillation_loss(student, teacher, temperature)
