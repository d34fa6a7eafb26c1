"""A network to learn on that takes no network to measure.

It pays for keeping the filters with the highest l2 norm, so its best decision is known.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from secateur.envs.cost.counts import size_ratio
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.plan import Mask
from secateur.rewards import Outcome


class ToyEvaluator:
    """Call the share of strong filters that stay accuracy: those of more than their layer's median norm."""

    def __init__(self, problem: PruningProblem) -> None:
        self.network = problem.network
        self.strong = [score > np.median(score) for score in problem.scores["l2"]]
        self.evaluations = 0

    def __call__(self, candidates: Sequence[Sequence[Mask]]) -> list[Outcome]:
        self.evaluations += len(candidates)
        return [self._outcome(masks) for masks in candidates]

    @contextlib.contextmanager
    def at_val_subset(self, number: int) -> Iterator[None]:
        yield

    def next_val_subset(self) -> None:
        """There are no images."""

    def _outcome(self, masks: Sequence[Mask]) -> Outcome:
        kept = np.array([mask.sum() for mask in masks])
        share = np.mean([mask[strong].mean() for mask, strong in zip(masks, self.strong, strict=True)])
        ratios = {
            f"{size}_ratio": float(size_ratio(self.network, kept, size))
            for size in ("macs", "params", "filters")
        }
        return Outcome(100 * float(share), 100.0, 1 - float(share), 0.0, 1.0, **ratios)


def toy_of(problem: PruningProblem, **changes: Any) -> PruningProblem:
    return dataclasses.replace(problem, evaluator=ToyEvaluator(problem), **changes)
