"""A policy over filters that learns by a plain policy gradient while the weights train.

It has a logit a layer and a preference a filter; their sum is the mean of a normal distribution from which
priorities are drawn, and a size budget turns priorities into keep masks of exactly its size.

Shapes: L layers, N filters of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...envs.problem.importance import Scores
from ...envs.surgery.plan import Mask
from ..deciders.base import Budget
from ..deciders.baselines import keep_highest

_FILTER_NOISE = 0.3
_LAYER_NOISE = 0.03
"""Deviations of what is drawn for a filter and for a layer, in units of the deviation of all scores. A small
step of a layer removes many of its filters at once."""

_RATE = 0.3
"""Step of the policy gradient, in units of the noise, for a difference of the losses of average size."""

_SMOOTHING = 0.9
"""Share of the past in the average size of the differences."""


class FilterPolicy:
    """Draw keep masks in pairs, and prefer the kind whose loss is smaller.

    Its state is a dictionary of tensors that change in place, so that a network can carry them.

    Args:
        scores: What is preferred at first, one array (N,) per layer, comparable across layers.
        seed: Seed of the draws.
    """

    def __init__(self, scores: Scores, seed: int) -> None:
        self._sizes, self._seed = [len(score) for score in scores], seed
        self.state: dict[str, Tensor] = {
            "preferences": torch.from_numpy(_standardised(np.concatenate(scores))),
            "logits": torch.zeros(len(scores), dtype=torch.float64),
            "difference": torch.zeros((), dtype=torch.float64),
        }

    def decide(self, budget: Budget) -> list[Mask]:
        """Return what the policy prefers: the masks of its mean."""
        return self._project(budget, np.zeros(len(self.state["preferences"])), np.zeros(len(self._sizes)))

    def draw(self, budget: Budget, step: int, sign: int = 1) -> list[Mask]:
        """Draw the masks of a step; with the sign -1 the opposite draw."""
        filters, layers = self._noise(step)
        return self._project(budget, sign * filters, sign * layers)

    def learn(self, step: int, loss: float, opposite: float) -> None:
        """Move towards the better one of a step's two draws.

        Args:
            step: The step.
            loss: Loss of the draw; the less the better.
            opposite: Loss of the opposite draw, on the same images.
        """
        better, size = opposite - loss, self.state["difference"]
        size.fill_(_SMOOTHING * float(size) + (1 - _SMOOTHING) * abs(better) if size > 0 else abs(better))
        if not size > 0:
            return
        factor = _RATE * float(np.clip(better / float(size), -3, 3))
        filters, layers = self._noise(step)
        self.state["preferences"] += factor * torch.from_numpy(filters).to(size.device)
        self.state["logits"] += factor * torch.from_numpy(layers).to(size.device)

    def _noise(self, step: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        generator = np.random.default_rng((self._seed, step))
        return (
            _FILTER_NOISE * generator.standard_normal(sum(self._sizes)),
            _LAYER_NOISE * generator.standard_normal(len(self._sizes)),
        )

    def _project(
        self, budget: Budget, filters: npt.NDArray[np.float64], layers: npt.NDArray[np.float64]
    ) -> list[Mask]:
        """Keep the highest priorities, as many as the budget allows."""
        means, logits = (self.state[name].cpu().numpy() for name in ("preferences", "logits"))
        priorities = means + filters + np.repeat(logits + layers, self._sizes)
        return keep_highest(budget, np.split(priorities, np.cumsum(self._sizes)[:-1]))


def _standardised(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Shift and scale scores to mean 0 and deviation 1, if they differ."""
    return np.asarray((scores - scores.mean()) / (scores.std() or 1.0))


def returned(before: Sequence[Mask], after: Sequence[Mask]) -> int:
    """Count the filters that are kept after, and were not before."""
    return sum(int((new & ~old).sum()) for old, new in zip(before, after, strict=True))
