"""Metrics for users' tasks, computed from statistics that are summed over batches.

Shapes: B examples of a batch, D numbers to predict, K labels or classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..io.wording import counted


@runtime_checkable
class Metric(Protocol):
    """A metric in percent, higher is better."""

    @property
    def name(self) -> str:
        """Name of the metric in reports."""

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sums that the metric is computed from; those of several batches are added."""

    def value(self, statistics: Tensor) -> float:
        """Compute the metric from summed statistics, percent."""

    def details(self, statistics: Tensor) -> Mapping[str, float | None]:
        """Return the metric of each class or output by name, percent, None if undefined; may be empty."""


@dataclass(frozen=True)
class R2:
    """The coefficient of determination: 100 for perfect predictions, 0 for predicting the mean.

    For several outputs it is their plain average (scikit-learn's ``uniform_average``).

    Args:
        outputs: Names of the D outputs for the report; by default they are numbered.
        name: Name of the metric in reports.
    """

    outputs: Sequence[str] = ()
    name: str = "R²"

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sum the terms of both sums of squares: (4, D) float64.

        Args:
            outputs: Predictions (B, D).
            targets: True values (B, D).
        """
        predicted, true = (x.detach().double().reshape(len(x), -1) for x in (outputs, targets))
        rows = [torch.ones_like(true), true, true.square(), (true - predicted).square()]
        return torch.stack([row.sum(0) for row in rows])

    def value(self, statistics: Tensor) -> float:
        """Average over the outputs, percent; 0 if all targets are equal."""
        return mean_of_defined(self._each(statistics))

    def details(self, statistics: Tensor) -> dict[str, float | None]:
        """Return the percentage of each output, if there are several."""
        each = self._each(statistics)
        return dict(zip(_names(self.outputs, len(each)), each, strict=True)) if len(each) > 1 else {}

    def _each(self, statistics: Tensor) -> list[float | None]:
        count, total, squares, residual = statistics
        variation = squares - total.square() / count
        # Below this the variation is only the rounding error of the subtraction.
        defined = variation > 1e-12 * squares
        percent = 100.0 * (1.0 - residual / torch.where(defined, variation, torch.ones_like(variation)))
        return [float(v) if d else None for v, d in zip(percent.tolist(), defined.tolist(), strict=True)]


@dataclass(frozen=True)
class MacroF1:
    """The F1 score of each label, averaged over labels: rare ones count as much as frequent ones.

    A label that neither occurs nor is predicted has no score and is left out.

    Args:
        labels: Names of the K labels for the report; by default they are numbered.
        threshold: Output above which a label is predicted; 0 suits logits, 0.5 probabilities.
        name: Name of the metric in reports.
    """

    labels: Sequence[str] = ()
    threshold: float = 0.0
    name: str = "macro-F1"

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Count true positives, false positives and false negatives: (3, K) int64.

        Args:
            outputs: Outputs (B, K).
            targets: Targets (B, K), 1 if a label applies, else 0.
        """
        predicted, true = outputs > self.threshold, targets > 0.5
        counts = [predicted & true, predicted & ~true, ~predicted & true]
        return torch.stack([count.sum(0) for count in counts])

    def value(self, statistics: Tensor) -> float:
        """Average over the labels, percent."""
        return mean_of_defined(self._each(statistics))

    def details(self, statistics: Tensor) -> dict[str, float | None]:
        """Return the percentage of each label."""
        each = self._each(statistics)
        return dict(zip(_names(self.labels, len(each)), each, strict=True))

    def _each(self, statistics: Tensor) -> list[float | None]:
        counts = zip(*statistics.tolist(), strict=True)
        return [200.0 * tp / (2 * tp + fp + fn) if tp + fp + fn else None for tp, fp, fn in counts]


@dataclass(frozen=True)
class Accuracy:
    """The share of examples, or of pixels, for which the true class has the largest output.

    Labels that are no class, such as 255 or -100, do not count.

    Args:
        ignore_label: Label of a class that does not count either; None counts all classes.
        name: Name of the metric in reports.
    """

    ignore_label: int | None = None
    name: str = "accuracy"

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Count correct predictions and all predictions: (2,) int64.

        Args:
            outputs: Outputs (B, K, ...).
            targets: Class indices (B, ...).
        """
        counted = _is_class(targets, outputs.shape[1], self.ignore_label)
        return torch.stack([((outputs.argmax(1) == targets) & counted).sum(), counted.sum()])

    def value(self, statistics: Tensor) -> float:
        """Return the share, percent; 0 if nothing counts."""
        right, count = statistics.tolist()
        return 100.0 * right / count if count else 0.0

    def details(self, statistics: Tensor) -> dict[str, float | None]:
        """Return an empty dict."""
        return {}


@dataclass(frozen=True)
class MeanIoU:
    """The intersection over union of each class, averaged over classes that occur or are predicted.

    Labels that are no class, such as 255, do not count.

    Args:
        classes: Names of the K classes for the report; by default they are numbered.
        ignore_label: Label of a class that does not count either; None counts all classes.
        name: Name of the metric in reports.
    """

    classes: Sequence[str] = ()
    ignore_label: int | None = None
    name: str = "mean IoU"

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the confusion matrix, true class by predicted class: (K, K) int64.

        Args:
            outputs: Outputs (B, K, H, W).
            targets: Class indices (B, H, W).
        """
        return confusion_matrix(outputs, targets, self.ignore_label)

    def value(self, statistics: Tensor) -> float:
        """Average over the classes, percent."""
        return mean_of_defined(self.details(statistics).values())

    def details(self, statistics: Tensor) -> dict[str, float | None]:
        """Return the percentage of each class; None if it never occurs."""
        names = _names(self.classes, len(statistics))
        return dict(zip(names, intersections_over_unions(statistics, self.ignore_label), strict=True))


def confusion_matrix(outputs: Tensor, targets: Tensor, ignore_label: int | None = None) -> Tensor:
    """Count pixels by true class and predicted class: (K, K) int64.

    Args:
        outputs: Outputs (B, K, ...).
        targets: Class indices (B, ...); labels that are no class are left out.
        ignore_label: Label of a class that is left out, too, or None.
    """
    classes = outputs.shape[1]
    counted = _is_class(targets, classes, ignore_label)
    pairs = targets[counted].long() * classes + outputs.argmax(1)[counted]
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def intersections_over_unions(confusion: Tensor, ignore_label: int | None = None) -> list[float | None]:
    """Return the intersection over union of each class, percent; None if it never occurs or is ignored.

    Args:
        confusion: Pixels by true class and predicted class, (K, K).
        ignore_label: The ignored label, or None.
    """
    intersections = confusion.diagonal().tolist()
    unions = (confusion.sum(0) + confusion.sum(1) - confusion.diagonal()).tolist()
    return [
        100.0 * both / union if k != ignore_label and union > 0 else None
        for k, (both, union) in enumerate(zip(intersections, unions, strict=True))
    ]


def mean_of_defined(values: Iterable[float | None]) -> float:
    """Return the mean of the values that are not None; 0 if none is defined."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else 0.0


def _is_class(targets: Tensor, classes: int, ignore_label: int | None) -> Tensor:
    targets = targets.long()  # bytes are compared with -100 as with 156
    counted = (targets >= 0) & (targets < classes)
    return counted if ignore_label is None else counted & (targets != ignore_label)


@dataclass(frozen=True)
class Average:
    """The average of a function over examples.

    Args:
        function: Function from outputs (B, ...) and targets (B, ...) to a score in percent, higher is better:
            one for the batch, weighted by its size, or one per example, (B,). A bool counts as 0 or 100.
        name: Name of the metric in reports.
    """

    function: Callable[[Tensor, Tensor], Any]
    name: str = "score"

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sum the scores and count the examples: (2,) float64.

        Raises:
            TypeError: If the function does not return scores.
        """
        given = torch.as_tensor(self.function(outputs.detach(), targets))
        score = given.double().cpu() * (100 if given.dtype is torch.bool else 1)
        if score.shape not in ((), (len(targets),)):
            raise TypeError(
                f"the metric gives a tensor of {tuple(score.shape)} for "
                f"{counted(len(targets), 'example')}; give one "
                "score, or one per example"
            )
        return torch.stack([score.mean() * len(targets), torch.tensor(float(len(targets))).double()])

    def value(self, statistics: Tensor) -> float:
        """Return the average."""
        total, count = statistics.tolist()
        return float(total / count) if count else math.nan

    def details(self, statistics: Tensor) -> dict[str, float | None]:
        """Return an empty dict."""
        return {}


def _names(given: Sequence[str], count: int) -> list[str]:
    if given and len(given) != count:
        raise ValueError(
            f"{len(given)} names were given for {counted(count, 'output')}; give one per output, or none"
        )
    return list(given) or [str(k) for k in range(count)]
