"""The average precision of boxes, from statistics that are summed over images.

Shapes: D boxes that a network finds in an image, T true boxes in it, K classes, S steps of the score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from .metrics import mean_of_defined

Boxes = Mapping[str, Tensor]
"""The boxes of an image with their labels, and the scores of those that a network finds."""

_STEPS = 100
"""Steps of the score, S. The curve of precision and recall has a point for each."""


@dataclass(frozen=True)
class AveragePrecision:
    """The area under the curve of precision and recall at one overlap, averaged over classes.

    Everingham et al. 2015, doi 10.1007/s11263-014-0733-5, section 4.1. Boxes are counted by class and by
    their score in steps of a hundredth, so that images can be summed: the curve has a hundred points.

    Args:
        classes: Names of the K classes, which have the labels 1 to K, as torchvision's detectors give them.
        overlap: Intersection over union from which a box is found, in (0, 1].
        first_label: Label of the first class; 0 for detectors without a label for the background.
        name: Name of the metric in reports.
    """

    classes: Sequence[str]
    overlap: float = 0.5
    first_label: int = 1
    name: str = "AP50"

    def statistics(self, outputs: Sequence[Boxes], targets: Sequence[Boxes]) -> Tensor:
        """Count by class and score: (2 S + 1, K) int64, of found boxes, of wrong ones, and all true boxes.

        Args:
            outputs: For each image ``boxes`` (D, 4) with corners x1, y1, x2, y2; ``labels`` (D,); and
                ``scores`` (D,) in [0, 1].
            targets: For each image ``boxes`` (T, 4) and ``labels`` (T,).

        Boxes of classes without a name do not count.
        """
        counts = torch.zeros(2 * _STEPS + 1, len(self.classes), dtype=torch.int64)
        for found, true in zip(map(self._named, outputs), map(self._named, targets), strict=True):
            counts[-1] += torch.bincount(true["labels"], minlength=len(self.classes))
            steps = (found["scores"] * _STEPS).long().clamp(0, _STEPS - 1)
            rows = torch.where(_matched(found, true, self.overlap), steps, steps + _STEPS)
            counts.index_put_((rows, found["labels"]), torch.ones_like(rows), accumulate=True)
        return counts

    def _named(self, boxes: Boxes) -> dict[str, Tensor]:
        """Return the boxes of the named classes, on the CPU, with labels from 0."""
        labels = boxes["labels"].cpu() - self.first_label
        named = (labels >= 0) & (labels < len(self.classes))
        known = {key: boxes[key].cpu()[named] for key in ("boxes", "scores") if key in boxes}
        return {**known, "labels": labels[named]}

    def value(self, statistics: Tensor) -> float:
        """Average over the classes that occur, percent; 0 if none does."""
        return mean_of_defined(self._each(statistics))

    def details(self, statistics: Tensor) -> dict[str, float | None]:
        """Return the average precision of each class, percent, None for one that does not occur."""
        return dict(zip(self.classes, self._each(statistics), strict=True))

    def _each(self, statistics: Tensor) -> list[float | None]:
        right = statistics[:_STEPS].flip(0).cumsum(0).double()  # (S, K), from the highest score on
        wrong = statistics[_STEPS:-1].flip(0).cumsum(0).double()
        true = statistics[-1].double()
        precision = right / (right + wrong).clamp_min(1)
        precision = precision.flip(0).cummax(0).values.flip(0)  # the highest at this recall or more
        gained = torch.diff(right, dim=0, prepend=torch.zeros_like(right[:1]))
        areas = 100.0 * (precision * gained).sum(0) / true.clamp_min(1)
        return [float(area) if count else None for area, count in zip(areas, true, strict=True)]


def _matched(found: Boxes, true: Boxes, overlap: float) -> Tensor:
    """Return which boxes (D,) are right: each takes the free true box of its class that it overlaps most.

    Boxes with higher scores choose first.
    """
    ious = box_iou(found["boxes"].double(), true["boxes"].double())
    ious[found["labels"][:, None] != true["labels"][None]] = 0.0
    right = torch.zeros(len(ious), dtype=torch.bool)
    if not ious.numel():
        return right
    for box in found["scores"].argsort(descending=True, stable=True).tolist():
        best = int(ious[box].argmax())
        if ious[box, best] >= overlap:
            right[box] = True
            ious[:, best] = 0.0
    return right
