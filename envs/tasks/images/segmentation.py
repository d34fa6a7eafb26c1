"""Semantic segmentation of images with masks of class indices.

Shapes: B images of a batch, N masks, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..metrics import confusion_matrix, intersections_over_unions, mean_of_defined
from .image_task import ImageTask


@dataclass(frozen=True)
class SegmentationTask(ImageTask):
    """Segment images, with cross-entropy and mean intersection over union.

    Args in addition to those of :class:`.image_task.ImageTask`:
        ignore_label: Label of pixels that are ignored in loss and metric, in [0, 255].
        class_weights: Weights of the K classes in the loss, >= 0; empty means equal weights.
        scales: Smallest and largest factor of the random scaling of training images, > 0.
        flip: Whether training images are flipped left to right with probability 0.5.
        largest_batch: Largest number of images in one pass.
        notes: Sentences for the report.

    Raises:
        ValueError: If a part is missing, shapes do not match, or a number is out of its range.
    """

    ignore_label: int = 255
    class_weights: tuple[float, ...] = ()
    scales: tuple[float, float] = (0.75, 1.5)
    flip: bool = True
    largest_batch: int = 8
    notes: tuple[str, ...] = ()

    metric_name = "mean IoU"
    augments_to_floats = True

    @property
    def augmentation(self) -> str:
        """Description of the augmentation of training images; "none" without one."""
        if self.transforms is not None:
            return self.transforms.names[0]
        low, high = self.scales
        views = f"random scaling by {low:g} to {high:g} with crops" if self.scales != (1, 1) else ""
        return " and ".join(filter(None, (views, "flips" if self.flip else ""))) or "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.ignore_label <= 255:
            raise ValueError(f"the ignore label is {self.ignore_label}; masks hold 0 to 255")
        if self.class_weights and len(self.class_weights) != self.num_outputs:
            raise ValueError(
                f"{len(self.class_weights)} class weights were given for {self.num_outputs} classes; give "
                "one per class, or none"
            )
        if not 0 < self.scales[0] <= self.scales[1]:
            raise ValueError(f"scales are two positive numbers, the smaller first, got {self.scales}")

    @property
    def draws(self) -> int:
        """Random numbers for an image: its scale, two shifts, and whether it is flipped."""
        return 4

    def augmented(self, images: Tensor, targets: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Scale, shift and flip images (B, C, H, W) and masks (B, H, W) uint8 by random numbers (B, 4)."""
        return random_views(images.float(), targets.long(), self.scales, self.flip, self.ignore_label, draws)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of outputs (B, K, H, W), averaged over pixels with class weights.

        Raises:
            ValueError: If the outputs have another shape.
        """
        return self.smoothed_loss(outputs, targets, 0.0)

    def smoothed_loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Return the loss with label smoothing in [0, 1).

        Raises:
            ValueError: If the outputs have another shape.
        """
        self._check(outputs, targets)
        weights = torch.tensor(self.class_weights or [1.0] * self.num_outputs, device=outputs.device)
        labelled = targets != self.ignore_label
        total = F.cross_entropy(
            outputs,
            targets,
            weights,
            ignore_index=self.ignore_label,
            reduction="sum",  # "mean" is undefined if every pixel is ignored
            label_smoothing=label_smoothing,
        )
        return total / weights[targets[labelled]].sum().clamp_min(1e-9)

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the confusion matrix, true class by predicted class: (K, K) int64.

        Raises:
            ValueError: If the outputs have another shape.
        """
        self._check(outputs, targets)
        return confusion_matrix(outputs, targets, self.ignore_label)

    def metric(self, statistics: Tensor) -> float:
        """Average the intersection over union of classes that occur or are predicted, percent."""
        return mean_of_defined(self.details(statistics).values())

    def details(self, statistics: Tensor) -> dict[str, float | None]:
        """Return the intersection over union of each class, percent; None if it never occurs."""
        each = intersections_over_unions(statistics, self.ignore_label)
        return dict(zip(self.classes, each, strict=True))

    def _check(self, outputs: Tensor, targets: Tensor) -> None:
        expected = (len(targets), self.num_outputs, *targets.shape[1:])
        if tuple(outputs.shape) != expected:
            raise ValueError(
                f"{self.name} has {self.num_outputs} classes and masks of {tuple(targets.shape[1:])}, the "
                f"network's outputs have the shape {tuple(outputs.shape[1:])} per image: give a network "
                f"with outputs of {expected[1:]}, or name the classes in classes.txt if labels of the masks "
                "are none"
            )


def random_views(
    images: Tensor,
    masks: Tensor,
    scales: tuple[float, float],
    flip: bool,
    ignore_label: int,
    draws: Tensor,
) -> tuple[Tensor, Tensor]:
    """Scale, shift and flip every image and its mask at random, in one gather.

    Enlarged images are cropped to their size at a random position; reduced ones are put at a random position
    on black.

    Args:
        images: Images (B, C, H, W) float32, black is 0.
        masks: Masks (B, H, W) int64.
        scales: Smallest and largest scale factor, > 0.
        flip: Whether to flip left to right, with probability 0.5.
        ignore_label: Label for pixels outside the image.
        draws: Random numbers in [0, 1), (B, 4), on the CPU.
    """
    scale, down, right, mirror = draws.float().to(images.device).T[..., None, None]  # (B, 1, 1) each
    inverse = 1 / (scales[0] + (scales[1] - scales[0]) * scale)
    # In grid_sample's coordinates the image extends from -1 to 1; this is the largest shift inside it. The
    # grid is made number by number: a matrix product would round differently in a batch of another size.
    shift = (1 - inverse).abs()
    sign = torch.where(mirror < 0.5, -1.0, 1.0) if flip else torch.ones_like(mirror)
    rows, columns = (_centres(size, images.device) for size in images.shape[-2:])
    x = inverse * sign * columns + (2 * right - 1) * shift  # (B, 1, W)
    y = inverse * rows[:, None] + (2 * down - 1) * shift  # (B, H, 1)
    grid = torch.stack(torch.broadcast_tensors(x, y), -1)  # (B, H, W, 2)
    shifted = masks[:, None].float() + 1  # so that 0, sampled outside the image, is not a label
    views = F.grid_sample(images, grid, align_corners=False)
    labels = F.grid_sample(shifted, grid, mode="nearest", align_corners=False)[:, 0].round().long() - 1
    return views, labels.masked_fill(labels < 0, ignore_label)


def _centres(size: int, device: torch.device) -> Tensor:
    """Return the centres of pixels along a side in grid_sample's coordinates, (size,)."""
    return (2 * torch.arange(size, device=device) + 1) / size - 1


def label_counts(mask: Tensor) -> Tensor:
    """Count the pixels of each label of a mask (H, W) uint8: (256,) int64."""
    return torch.bincount(mask.flatten().long(), minlength=256)


def balanced_weights(counts: Tensor, classes: int, ignore_label: int) -> tuple[float, ...]:
    """Compute class weights by median frequency balancing.

    Source: Eigen and Fergus 2015, arXiv 1411.4734, section 6.3.2.

    Args:
        counts: Pixels of each label in each mask of training images, (N, 256); see :func:`label_counts`.
        classes: Number of classes, K.
        ignore_label: Label of ignored pixels.

    Returns:
        K weights: the median of all classes' frequencies divided by the class's frequency, which is its share
        of the pixels of the images that contain it; 1 for a class that no image contains.
    """
    counts = counts[:, :classes].clone()  # (N, K)
    if ignore_label < classes:
        counts[:, ignore_label] = 0
    pixels = counts.sum(1, keepdim=True).expand_as(counts)
    present = counts > 0
    frequency = counts.sum(0) / (pixels * present).sum(0).clamp_min(1)
    median = frequency[frequency > 0].median()
    return tuple(torch.where(frequency > 0, median / frequency.clamp_min(1e-12), 1.0).tolist())
