"""Random candidates, and evaluators that have measured none."""

from __future__ import annotations

import numpy as np

from secateur.envs.evaluation.evaluator import CandidateEvaluator
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.plan import Mask


def candidate(problem: PruningProblem, keep: float, seed: int = 0) -> list[Mask]:
    drawn = np.random.default_rng(seed)
    masks = [drawn.random(layer.filters) < keep for layer in problem.network.layers]
    for mask in masks:
        mask[0] = True
    return masks


def fresh_evaluator(problem: PruningProblem) -> CandidateEvaluator:
    """Make another one that measures as the problem's own does."""
    return CandidateEvaluator(
        problem.model,
        problem.network,
        problem.task,
        images=256,
        statistics_images=256,
        compensation=problem.compensation,
    )
