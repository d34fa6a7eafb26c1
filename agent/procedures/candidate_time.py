"""How long a candidate takes to measure: a part that is the same for any images, and one for each of them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch

from ...envs.evaluation.base import Candidate
from ...envs.evaluation.workload import Workload
from ...envs.modules.ranks import broadcast
from ...envs.problem.problem import PruningProblem
from ...envs.tasks.base import SplitName

FEW = 16
"""Images of a measurement that takes little more than the part that is the same for any images."""


@dataclass(frozen=True)
class CandidateTime:
    """Seconds of measuring a candidate, as part of a call with many.

    Args:
        problem: The network and its data.
        fixed: Seconds of a candidate without any image: compensation and the cut.
        each: Seconds of an image.
        evaluator: Seconds that it takes to make an evaluator.
    """

    problem: PruningProblem
    fixed: float
    each: float
    evaluator: float = 0.0

    @classmethod
    def measured(cls, problem: PruningProblem, images: int, masks: Candidate) -> Self:
        """Time a candidate on the images of the search and on few.

        Args:
            problem: The network and its data.
            images: Images of the problem's evaluator, at most.
            masks: One keep mask (N,) per layer.
        """
        whole = problem.evaluator.seconds_per_candidate(masks)
        began = time.perf_counter()
        few = replace(problem, quantized=None).choice_problem(FEW).evaluator
        evaluator = broadcast(time.perf_counter() - began)
        start = min(whole, few.seconds_per_candidate(masks))
        alone = cls(problem, 0.0, 0.0)
        most, least = alone.passes(images), alone.passes(FEW)
        each = (whole - start) / (most - least) if most > least else whole / most
        return cls(problem, max(0.0, whole - each * most), each, evaluator)

    def passes(self, images: int, splits: Sequence[SplitName] = ("val",)) -> int:
        """Return the images that pass through a candidate, those for statistics included.

        Args:
            images: Images to measure on, at most.
            splits: Where they are from.
        """
        model, task = self.problem.model, self.problem.task
        example, _ = task.batch("train", torch.arange(1))
        return Workload.of(model, task, example, images, splits=splits).passes

    def seconds(self, passes: float) -> float:
        """Return the seconds of a candidate through which so many images pass."""
        return self.fixed + self.each * passes

    def on(self, images: int, splits: Sequence[SplitName] = ("val",)) -> float:
        """Return the seconds of a candidate that is measured on so many images, or on all that there are.

        Args:
            images: Images to measure on, at most.
            splits: Where they are from.
        """
        return self.seconds(self.passes(images, splits))
