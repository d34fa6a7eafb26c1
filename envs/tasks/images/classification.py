"""Image classification, with images augmented in batches.

Shapes: B images of a batch, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...io.wording import counted
from .image_task import ImageTask


@dataclass(frozen=True)
class ClassificationTask(ImageTask):
    """Classify images, with cross-entropy and accuracy.

    Args in addition to those of :class:`.image_task.ImageTask`:
        padding: Width of the black border for random crops of training images, pixels, at least 0.
        flip: Whether training images are flipped left to right with probability 0.5.
        notes: Sentences for the report.
    """

    padding: int = 0
    flip: bool = False
    notes: tuple[str, ...] = ()

    @property
    def augmentation(self) -> str:
        """Description of the augmentation of training images; "none" without one."""
        if self.transforms is not None:
            return self.transforms.names[0]
        crops = f"random crops with a black border of {self.padding} pixels" if self.padding else ""
        return " and ".join(filter(None, (crops, "flips" if self.flip else ""))) or "none"

    @property
    def draws(self) -> int:
        """Random numbers for an image: where it is cropped, and whether it is flipped."""
        return 3

    def augmented(self, images: Tensor, targets: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Crop and flip images (B, C, H, W) uint8 by random numbers (B, 3); before normalising black is 0."""
        return random_crops(images, self.padding, self.flip, draws), targets

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of outputs (B, K).

        Raises:
            ValueError: If the network does not have one output per class.
        """
        return self.smoothed_loss(outputs, targets, 0.0)

    def smoothed_loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Return the mean cross-entropy of outputs (B, K) with label smoothing in [0, 1).

        Raises:
            ValueError: If the network does not have one output per class.
        """
        self._check(outputs)
        return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing)

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Count correct predictions and all predictions of outputs (B, K): (2,) int64.

        Raises:
            ValueError: If the network does not have one output per class.
        """
        self._check(outputs)
        correct = (outputs.argmax(1) == targets).sum()
        return torch.stack([correct, torch.full_like(correct, len(targets))])

    def metric(self, statistics: Tensor) -> float:
        """Return the accuracy, percent."""
        correct, count = statistics.tolist()
        return 100.0 * correct / count

    def _check(self, outputs: Tensor) -> None:
        if outputs.shape[1:] != (self.num_outputs,):
            raise ValueError(
                f"{self.name} has {counted(self.num_outputs, 'class', 'classes')}, the network's outputs "
                f"have the shape {tuple(outputs.shape[1:])} per image: give a network with "
                f"{counted(self.num_outputs, 'output')}"
            )


def random_crops(images: Tensor, padding: int, flip: bool, draws: Tensor) -> Tensor:
    """Crop every image at random from itself with a black border, and flip half of them.

    Batches of 128 take an eighth of the time of ``RandomCrop`` and ``RandomHorizontalFlip`` of
    ``torchvision.transforms.v2``, image by image, for images of 32 pixels, and two thirds for 224 (one core).

    Args:
        images: Images (B, C, H, W), black is 0.
        padding: Width of the border, pixels, at least 0.
        flip: Whether to flip left to right, with probability 0.5.
        draws: Random numbers in [0, 1), (B, 3), on the CPU.
    """
    padded = F.pad(images, (padding,) * 4)
    corners = (draws[:, :2] * (2 * padding + 1)).long()
    mirrored = (draws[:, 2] < 0.5) & flip
    cut = sliced_crops if images.device.type == "cpu" else gathered_crops
    return cut(padded, corners, mirrored, torch.empty_like(images, memory_format=torch.contiguous_format))


def sliced_crops(padded: Tensor, corners: Tensor, mirrored: Tensor, crops: Tensor) -> Tensor:
    """Copy a crop of each image, mirrored or not, into ``crops``, one after the other: best on a CPU.

    Args:
        padded: Images (B, C, H + border, W + border).
        corners: Upper and left corner of each crop, (B, 2) int64.
        mirrored: Whether to flip it, (B,) bool.
        crops: Gets the results, (B, C, H, W).
    """
    height, width = crops.shape[-2:]
    places = zip(padded, corners.tolist(), mirrored.tolist(), crops, strict=True)
    for image, (top, left), is_mirrored, crop in places:
        part = image[:, top : top + height, left : left + width]
        crop.copy_(part.flip(-1) if is_mirrored else part)
    return crops


def gathered_crops(padded: Tensor, corners: Tensor, mirrored: Tensor, crops: Tensor) -> Tensor:
    """Do what :func:`sliced_crops` does in one gather: best on a GPU, where each slice starts a kernel."""
    device = padded.device
    rows, columns = (
        corner[:, None].to(device) + torch.arange(length, device=device)
        for corner, length in zip(corners.T, crops.shape[-2:], strict=True)
    )  # (B, H) and (B, W)
    columns = torch.where(mirrored[:, None].to(device), columns.flip(1), columns)
    each = torch.arange(len(crops), device=device)[:, None, None]
    gathered = padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]]
    return crops.copy_(gathered.permute(0, 3, 1, 2))
