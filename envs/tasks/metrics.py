"""Metrics for tasks of one's own: what they need to know of a batch adds up over batches.

Shapes: B examples of a batch, D numbers to predict, K labels or classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Metric(Protocol):
    """What is measured, in percent, higher is better."""

    @property
    def name(self) -> str:
        """What reports call it."""

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Give what the metric needs to know of a batch, such that batches add up."""

    def value(self, statistics: Tensor) -> float:
        """Turn summed statistics into percent."""

    def details(self, statistics: Tensor) -> Mapping[str, float | None]:
        """Give percent for each class or output by name, None where it is undefined; may be empty."""


@dataclass(frozen=True)
class R2:
    """The coefficient of determination: 100 where every prediction is right, 0 for predicting the mean.

    Of several numbers to predict, the plain average of theirs (scikit-learn's ``uniform_average``).

    Args:
        outputs: D names for the report; by default they are numbered.
    """

    outputs: Sequence[str] = ()
    name: str = "R²"

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sum what both sums of squares are made of: (4, D) float64.

        Args:
            outputs: (B, D).
            targets: (B, D).
        """
        found, true = (x.detach().double().reshape(len(x), -1) for x in (outputs, targets))
        rows = [torch.ones_like(true), true, true.square(), (true - found).square()]
        return torch.stack([row.sum(0) for row in rows])

    def value(self, statistics: Tensor) -> float:
        """Average over the outputs, percent; 0 where all targets are equal."""
        known = [value for value in self._each(statistics) if value is not None]
        return sum(known) / len(known) if known else 0.0

    def details(self, statistics: Tensor) -> dict[str, float | None]:
        """Give percent for each output, if there are several."""
        each = self._each(statistics)
        return dict(zip(_names(self.outputs, len(each)), each, strict=True)) if len(each) > 1 else {}

    def _each(self, statistics: Tensor) -> list[float | None]:
        count, total, squares, residual = statistics
        spread = squares - total.square() / count
        # What is left of cancellation is no spread.
        told = spread > 1e-12 * squares
        share = 100.0 * (1.0 - residual / torch.where(told, spread, torch.ones_like(spread)))
        return [float(v) if t else None for v, t in zip(share.tolist(), told.tolist(), strict=True)]


@dataclass(frozen=True)
class MacroF1:
    """The F1 score of each label, averaged over labels: rare ones count as much as frequent ones.

    A label that is neither there nor predicted has no score and is left out.

    Args:
        labels: K names for the report; by default they are numbered.
        threshold: A label is predicted where its output is above; 0 suits logits, 0.5 probabilities.
    """

    labels: Sequence[str] = ()
    threshold: float = 0.0
    name: str = "macro-F1"

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Count hits, false alarms and misses: (3, K) int64.

        Args:
            outputs: (B, K).
            targets: (B, K), 1 where a label applies, else 0.
        """
        found, true = outputs > self.threshold, targets > 0.5
        return torch.stack([(found & true).sum(0), (found & ~true).sum(0), (~found & true).sum(0)])

    def value(self, statistics: Tensor) -> float:
        """Average over the labels, percent."""
        known = [value for value in self._each(statistics) if value is not None]
        return sum(known) / len(known) if known else 0.0

    def details(self, statistics: Tensor) -> dict[str, float | None]:
        """Give percent for each label."""
        each = self._each(statistics)
        return dict(zip(_names(self.labels, len(each)), each, strict=True))

    def _each(self, statistics: Tensor) -> list[float | None]:
        hits, alarms, misses = statistics.tolist()
        counted = zip(hits, alarms, misses, strict=True)
        return [200.0 * h / (2 * h + a + m) if h + a + m else None for h, a, m in counted]


@dataclass(frozen=True)
class Accuracy:
    """The share of examples whose class has the largest output."""

    name: str = "accuracy"

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Count right answers and answers: (2,) int64.

        Args:
            outputs: (B, K).
            targets: (B,) classes.
        """
        right = (outputs.argmax(1) == targets).sum()
        return torch.stack([right, torch.full_like(right, len(targets))])

    def value(self, statistics: Tensor) -> float:
        """Give the share, percent."""
        right, count = statistics.tolist()
        return 100.0 * right / count

    def details(self, statistics: Tensor) -> dict[str, float | None]:
        """Give nothing."""
        return {}


@dataclass(frozen=True)
class Average:
    """The average over examples of whatever a function says.

    Args:
        function: From outputs (B, ...) and targets (B, ...) to a score, higher is better, in percent: one for
            the batch, which counts by its size, or one an example, (B,).
        name: What reports call it.
    """

    function: Callable[[Tensor, Tensor], Any]
    name: str = "score"

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sum the scores and count the examples: (2,) float64.

        Raises:
            TypeError: If the function gives something else than a score.
        """
        score = torch.as_tensor(self.function(outputs.detach(), targets), dtype=torch.float64).cpu()
        if score.shape not in ((), (len(targets),)):
            raise TypeError(
                f"the metric gives a tensor of {tuple(score.shape)} for {len(targets)} examples; give one "
                "score, or one an example"
            )
        return torch.stack([score.mean() * len(targets), torch.tensor(float(len(targets))).double()])

    def value(self, statistics: Tensor) -> float:
        """Give the average."""
        total, count = statistics.tolist()
        return float(total / count) if count else math.nan

    def details(self, statistics: Tensor) -> dict[str, float | None]:
        """Give nothing."""
        return {}


def _names(given: Sequence[str], count: int) -> list[str]:
    if given and len(given) != count:
        raise ValueError(f"{len(given)} names were given for {count} outputs; give one each, or none")
    return list(given) or [str(k) for k in range(count)]
