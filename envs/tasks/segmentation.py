"""Classifying every pixel of images that lie in memory as bytes.

Shapes: B images of a batch, N images of a split, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import SplitName
from .images import ImageTask


@dataclass(frozen=True)
class SegmentationSplit:
    """Images and masks that lie in memory.

    Args:
        images: (N, C, H, W) uint8.
        masks: (N, H, W) uint8, class indices or the ignore label.

    Raises:
        ValueError: If shapes or types are others.
    """

    images: Tensor
    masks: Tensor

    def __post_init__(self) -> None:
        shape = (*self.images.shape[:1], *self.images.shape[-2:])
        bytes_alone = self.images.dtype == self.masks.dtype == torch.uint8
        if not bytes_alone or self.images.dim() != 4 or tuple(self.masks.shape) != shape:
            raise ValueError(
                "images are (N, C, H, W) uint8 and masks (N, H, W) uint8, got "
                f"{tuple(self.images.shape)} {self.images.dtype} and "
                f"{tuple(self.masks.shape)} {self.masks.dtype}"
            )

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def strata(self) -> Tensor:
        """Give what a split keeps the shares of: nothing, as an image has many classes."""
        return torch.zeros(len(self), dtype=torch.int64)

    def take(self, indices: Tensor) -> Self:
        """Give some of the images, in the order of the indices (M,)."""
        return type(self)(self.images[indices], self.masks[indices])

    def to(self, device: torch.device | str) -> Self:
        """Give the same images on a device."""
        return type(self)(self.images.to(device), self.masks.to(device))


@dataclass(frozen=True)
class SegmentationTask(ImageTask[SegmentationSplit]):
    """Images, masks, cross-entropy and mean intersection over union.

    Args beside those of :class:`.images.ImageTask`:
        ignore_label: Pixels of this label count nowhere, in [0, 255].
        class_weights: K weights of the loss, >= 0; empty weighs all alike.
        scales: Training images are magnified at random between these two, black and ignored outside.
        flip: Training images are mirrored left to right half of the time.
        largest_batch: Most images in one pass.
        notes: Sentences for the report.

    Raises:
        ValueError: If the parts do not belong together, or a number is out of its range.
    """

    ignore_label: int = 255
    class_weights: tuple[float, ...] = ()
    scales: tuple[float, float] = (0.75, 1.5)
    flip: bool = True
    largest_batch: int = 8
    notes: tuple[str, ...] = ()

    metric_name = "mean IoU"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.ignore_label <= 255:
            raise ValueError(f"the ignore label is {self.ignore_label}; masks hold 0 to 255")
        if self.class_weights and len(self.class_weights) != self.num_outputs:
            raise ValueError(f"{self.num_outputs} classes got {len(self.class_weights)} weights")
        if not 0 < self.scales[0] <= self.scales[1]:
            raise ValueError(f"scales are two positive numbers, the smaller first, got {self.scales}")

    def batch(
        self,
        split: SplitName,
        indices: Tensor,
        *,
        augment: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Give images as normalised float32 (B, C, H, W), and masks (B, H, W) int64.

        Args:
            split: Where to take them from.
            indices: (B,) int64, in [0, size), on any device.
            augment: Magnify, shift and flip at random as in training.
            generator: Source of that randomness, on the CPU; None takes torch's global one.
        """
        part = self.splits[split]
        indices = indices.to(part.masks.device)
        images, masks = part.images[indices].float(), part.masks[indices].long()
        if augment:
            images, masks = random_views(images, masks, self.scales, self.flip, self.ignore_label, generator)
        return self.normalised(images), masks

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Give the cross-entropy of outputs (B, K, H, W), averaged over pixels by their class's weight.

        Raises:
            ValueError: If the network answers with other shapes.
        """
        self._check(outputs, targets)
        weights = torch.tensor(self.class_weights or [1.0] * self.num_outputs, device=outputs.device)
        told = targets != self.ignore_label
        total = F.cross_entropy(
            outputs, targets, weights, ignore_index=self.ignore_label, reduction="sum"
        )  # its own mean is undefined where every pixel is ignored
        return total / weights[targets[told]].sum().clamp_min(1e-9)

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Count pixels by true and by predicted class: (K, K) int64.

        Raises:
            ValueError: If the network answers with other shapes.
        """
        self._check(outputs, targets)
        told = targets != self.ignore_label
        pairs = targets[told] * self.num_outputs + outputs.argmax(1)[told]
        return torch.bincount(pairs, minlength=self.num_outputs**2).view(self.num_outputs, -1)

    def metric(self, statistics: Tensor) -> float:
        """Average the intersection over union of classes that are there or predicted, percent."""
        known = [value for value in self.details(statistics).values() if value is not None]
        return sum(known) / len(known) if known else 0.0

    def details(self, statistics: Tensor) -> dict[str, float | None]:
        """Give the intersection over union of each class, percent; None where it is nowhere."""
        both = statistics.diagonal().tolist()
        either = (statistics.sum(0) + statistics.sum(1) - statistics.diagonal()).tolist()
        told = [k != self.ignore_label and union > 0 for k, union in enumerate(either)]
        rows = zip(self.classes, both, either, told, strict=True)
        return {name: 100.0 * b / union if there else None for name, b, union, there in rows}

    def _check(self, outputs: Tensor, targets: Tensor) -> None:
        expected = (len(targets), self.num_outputs, *targets.shape[1:])
        if tuple(outputs.shape) != expected:
            raise ValueError(
                f"{self.name} has {self.num_outputs} classes and masks of {tuple(targets.shape[1:])}, the "
                f"network's outputs have the shape {tuple(outputs.shape[1:])} per image: give a network "
                f"that answers with {expected[1:]}"
            )


def random_views(
    images: Tensor,
    masks: Tensor,
    scales: tuple[float, float],
    flip: bool,
    ignore_label: int,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Magnify, shift and mirror every image at random, and its mask alike, in one gather for all.

    Magnified images are cut to their size at a random place; shrunk ones lie at a random place on black.

    Args:
        images: (B, C, H, W) float32, black is 0.
        masks: (B, H, W) int64.
        scales: Smallest and largest magnification, > 0.
        flip: Whether to mirror left to right, half of the time.
        ignore_label: The label of what lies outside.
        generator: Source of randomness, on the CPU whatever the device of the images.
    """
    draws = torch.rand(4, len(images), generator=generator)
    inverse = 1 / (scales[0] + (scales[1] - scales[0]) * draws[0])
    # In grid_sample's units the image reaches from -1 to 1: so far the view can move and stay inside.
    down, right = (2 * draws[1:3] - 1) * (1 - inverse).abs()
    mirror = torch.where(draws[3] < 0.5, -1.0, 1.0) if flip else torch.ones(len(images))
    still = torch.zeros_like(inverse)
    across = torch.stack([inverse * mirror, still, right], 1)
    theta = torch.stack([across, torch.stack([still, inverse, down], 1)], 1).to(images.device)  # (B, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    shifted = masks[:, None].float() + 1  # outside becomes 0, which is no label then
    views = F.grid_sample(images, grid, align_corners=False)
    labels = F.grid_sample(shifted, grid, mode="nearest", align_corners=False)[:, 0].round().long() - 1
    return views, labels.masked_fill(labels < 0, ignore_label)


def balanced_weights(masks: Tensor, classes: int, ignore_label: int) -> tuple[float, ...]:
    """Weigh classes by median frequency balancing: Eigen and Fergus 2015, arXiv 1411.4734, section 6.3.2.

    Args:
        masks: (N, H, W) uint8 of the training images.
        classes: K.
        ignore_label: Counts nowhere.

    Returns:
        K weights: the median of all frequencies over the class's own, which is its share of the pixels of
        the images that it is in; 1 for a class that is in none.
    """
    counts = torch.stack(
        [torch.bincount(mask.flatten().long(), minlength=256)[:classes] for mask in masks]
    )  # (N, K)
    if ignore_label < classes:
        counts[:, ignore_label] = 0
    pixels = counts.sum(1, keepdim=True).expand_as(counts)
    there = counts > 0
    share = counts.sum(0) / (pixels * there).sum(0).clamp_min(1)
    median = share[share > 0].median()
    return tuple(torch.where(share > 0, median / share.clamp_min(1e-12), 1.0).tolist())
