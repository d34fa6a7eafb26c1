"""Checks of a dense network on its images, before anything is decided by its accuracy.

A difference counts if it is above one percentage point and significant, one-sided at 1 %.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..base import SplitName
from ..intervals import drop_interval, gap_interval
from ..measuring import Measurement, measure
from .classification import ClassificationTask
from .normalisation import CUSTOMARY, resolve_normalisation
from .segmentation import SegmentationTask
from .splits import Split

Images = ClassificationTask | SegmentationTask
"""A task with images of classes, in memory or on disk."""

SAMPLE = 1024
"""Largest number of images on which a dense network is measured before a run."""

_SPLITS: tuple[SplitName, ...] = ("val", "train")

_TRIED, _FIRST = 512, 128
"""Images for comparing normalisations, and for a first look at each of them."""

_AT_A_TIME = 64  # images to read for their targets

_LEVEL, _LEAST = 0.98, 1.0
"""Confidence level of the two-sided intervals, and the smallest difference that counts, percentage points."""


class Difference(NamedTuple):
    """The accuracies of a dense network in two cases, percent, and the number of images of each."""

    first: float
    second: float
    images: int


def sample(task: Images, split: SplitName, count: int = SAMPLE, indices: Tensor | None = None) -> Images:
    """Return a task of which each split has the same few images, evenly spread over one split, in memory.

    With transforms of the user's own they stay on disk.

    Args:
        task: The task.
        split: The split that the images are taken from.
        count: Their largest number, at least 1.
        indices: Indices of the images to choose from, (M,) int64; None is all.
    """
    indices = torch.arange(task.size(split)) if indices is None else indices
    count = min(count, len(indices))
    part = task.splits[split].take(indices[torch.arange(count) * len(indices) // count])
    if task.transforms is None:
        part = Split.held(*part.read(torch.arange(count)))
    return dataclasses.replace(task, splits={"train": part, "val": part, "test": part})


def better_normalisation(model: nn.Module, task: Images) -> tuple[str, Difference] | None:
    """Find a customary normalisation with which a dense network is significantly better.

    Args:
        model: The dense network, on the task's device.
        task: The task; it is measured on images of val, or of train if val is small.

    Returns:
        The name of the best normalisation, and the accuracies with that of the task and with the best; None
        if none is significantly better.
    """
    split = max(_SPLITS, key=lambda name: min(task.size(name), _TRIED))
    names = _other_normalisations(task)
    for count in (_FIRST, _TRIED):
        images = sample(task, split, count)
        given = _measured(model, images)
        tried = {
            name: _measured(model, dataclasses.replace(images, mean=names[name][0], std=names[name][1]))
            for name in names
        }
        names = {name: names[name] for name in names if tried[name].accuracy > given.accuracy}
        if not names:
            return None
    best = max(tried, key=lambda name: tried[name].accuracy)
    interval = drop_interval(task, tried[best], given, _LEVEL)
    difference = Difference(given.accuracy, tried[best].accuracy, given.images)
    if constant_accuracy(images, tried[best]) is not None:
        return None  # it is no better than a constant answer, so the cause is another one
    return (best, difference) if _counts(interval, difference.second - difference.first) else None


def _other_normalisations(task: Images) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Return means and deviations of the customary normalisations that differ from the task's, by name."""
    in_use = torch.tensor([task.mean, task.std])
    named = {name: resolve_normalisation(name, task.splits["train"]) for name in CUSTOMARY}
    return {
        name: values
        for name, values in named.items()
        if not torch.allclose(torch.tensor(values), in_use, rtol=0, atol=2e-3)
    }


def constant_accuracy(few: Images, measured: Measurement) -> float | None:
    """Compare a dense network with the constant answer that is right most often.

    Args:
        few: A sample of images.
        measured: Measurement of the network on them, made with ``by_example``.

    Returns:
        The accuracy of that answer, percent, if the network is not significantly better; else None.
    """
    batches = torch.arange(few.size("val")).split(_AT_A_TIME)  # all images at once may take a gigabyte
    targets = torch.cat([few.batch("val", batch)[1] for batch in batches])
    classes = targets[(targets >= 0) & (targets < few.num_outputs)]
    constant = _Constant(classes.bincount(minlength=few.num_outputs), targets.shape[1:])
    answered = _measured(constant, few)
    interval = drop_interval(few, measured, answered, _LEVEL)
    return answered.accuracy if interval is not None and interval[0] <= 0 else None


class _Constant(nn.Module):
    """Give the same scores (K,) for each image, and for each pixel of a shape."""

    def __init__(self, scores: Tensor, shape: torch.Size) -> None:
        super().__init__()
        self._scores, self._shape = scores.float(), shape

    def forward(self, images: Tensor) -> Tensor:
        scores = self._scores.view(1, -1, *(1 for _ in self._shape))
        return scores.expand(len(images), -1, *self._shape)


def known_better(model: nn.Module, known: Images, unseen: Images) -> tuple[bool, Difference]:
    """Compare a dense network on images that it may have been trained on with images that it has not seen.

    Args:
        model: The dense network, on the tasks' device.
        known: A sample of images that it may know.
        unseen: A sample of images that it has not seen.

    Returns:
        Whether it is significantly better on the former, and both accuracies.
    """
    first, second = _measured(model, known), _measured(model, unseen)
    interval = gap_interval(known, first, second, _LEVEL)
    difference = Difference(first.accuracy, second.accuracy, first.images)
    return _counts(interval, difference.first - difference.second), difference


def _measured(model: nn.Module, few: Images) -> Measurement:
    return measure(model, few, "val", by_example=True)


def _counts(interval: tuple[float, float] | None, difference: float) -> bool:
    return interval is not None and interval[0] > 0 and difference > _LEAST
