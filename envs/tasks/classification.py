"""Classifying images that lie in memory as bytes, and are augmented a batch at a time.

Shapes: B images of a batch, N images of a split, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import SplitName
from .images import ImageTask
from .splits import Split


@dataclass(frozen=True)
class ClassificationTask(ImageTask[Split]):
    """Images, labels, cross-entropy and accuracy.

    Args beside those of :class:`.images.ImageTask`:
        padding: Training images are random crops of the image with a black rim of so many pixels, >= 0.
        flip: Training images are mirrored left to right half of the time.
        notes: Sentences for the report.
    """

    padding: int = 0
    flip: bool = False
    notes: tuple[str, ...] = ()

    def batch(
        self,
        split: SplitName,
        indices: Tensor,
        *,
        augment: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Give images as normalised float32 (B, C, H, W), and labels (B,), on the task's device.

        Args:
            split: Where to take them from.
            indices: (B,) int64, in [0, size), on any device.
            augment: Crop and flip at random as in training.
            generator: Source of that randomness, on the CPU; None takes torch's global one.
        """
        part = self.splits[split]
        indices = indices.to(part.labels.device)
        images = part.images[indices]
        if augment:
            # Black is 0 before normalising, not after: networks are trained on rims of that colour.
            images = random_crops(images, self.padding, self.flip, generator)
        return self.normalised(images), part.labels[indices]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Give the mean cross-entropy of outputs (B, K).

        Raises:
            ValueError: If the network has another number of outputs than there are classes.
        """
        self._check(outputs)
        return F.cross_entropy(outputs, targets)

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Count correct answers and answers of outputs (B, K): (2,) int64.

        Raises:
            ValueError: If the network has another number of outputs than there are classes.
        """
        self._check(outputs)
        correct = (outputs.argmax(1) == targets).sum()
        return torch.stack([correct, torch.full_like(correct, len(targets))])

    def metric(self, statistics: Tensor) -> float:
        """Give the accuracy, percent."""
        correct, count = statistics.tolist()
        return 100.0 * correct / count

    def _check(self, outputs: Tensor) -> None:
        if outputs.shape[1:] != (self.num_outputs,):
            raise ValueError(
                f"{self.name} has {self.num_outputs} classes, the network's outputs have the shape "
                f"{tuple(outputs.shape[1:])} per image: give a network with {self.num_outputs} outputs"
            )


def random_crops(
    images: Tensor, padding: int, flip: bool, generator: torch.Generator | None = None
) -> Tensor:
    """Shift every image at random, black coming in, and mirror half of them, in one gather for all.

    Args:
        images: (B, C, H, W), black is 0.
        padding: Largest shift, pixels, >= 0.
        flip: Whether to mirror left to right, half of the time.
        generator: Source of randomness, on the CPU whatever the device of the images.
    """
    count, _, height, width = images.shape
    device = images.device
    shifts = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator).to(device)
    rows = shifts[0] + torch.arange(height, device=device)  # (B, H)
    columns = shifts[1] + torch.arange(width, device=device)  # (B, W)
    if flip:
        mirrored = (torch.rand(count, 1, generator=generator) < 0.5).to(device)
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(images, (padding,) * 4).permute(0, 2, 3, 1)
    each = torch.arange(count, device=device)[:, None, None]
    crops = padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    # contiguous() would leave the strides of grey images, which convolutions then take for channels-last.
    return crops.clone(memory_format=torch.contiguous_format)
