"""Confidence intervals of differences in accuracy, of two networks or of two sets of examples.

Shapes: N examples, or groups of them, D bootstrap draws.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import Tensor

from .base import Task
from .measuring import Measurement

LEVEL = 0.95
"""Confidence level: share of such intervals that contain the drop on the examples' population."""

_DRAWS = 2000

_BLOCK = 2**24
"""Largest number of weights in one block of draws."""

_ADDITIVE = 1e-3
"""Allowed difference, percentage points, between the metric of summed statistics and the measured one."""


def drop_interval(
    task: Task, dense: Measurement, pruned: Measurement, level: float = LEVEL
) -> tuple[float, float] | None:
    """Compute the confidence interval of the accuracy drop, from both networks on the same examples.

    If every example is right or wrong, it is the adjusted Wald interval of Bonett and Price 2012 (doi
    10.3102/1076998611411915), which Fagerland et al. 2014 (doi 10.1002/sim.6148) recommend for any number of
    pairs. Else it is a bootstrap over examples, with the same draws for both networks and percentiles widened
    for few examples (Hesterberg 2014, arXiv 1411.5279).

    Args:
        task: The task with the metric.
        dense: Measurement of the dense network, made with ``by_example``.
        pruned: Measurement of the pruned network, made on the same examples.
        level: Confidence level, in (0, 1).

    Returns:
        The lower and the upper end, percentage points; 0 and 0 if both networks' results are identical. None
        if there are fewer than two examples, or the metric cannot be computed from examples' statistics.
    """
    a, b = dense.example_statistics, pruned.example_statistics
    if a is None or b is None or len(a) < 2 or not (_is_additive(task, dense) and _is_additive(task, pruned)):
        return None
    if torch.equal(a, b) and dense.loss == pruned.loss:
        return 0.0, 0.0
    if _is_right_or_wrong(task, a) and _is_right_or_wrong(task, b):
        change = (a[:, 0] - b[:, 0]).numpy()
        return _paired_proportions(int((change > 0).sum()), int((change < 0).sum()), len(change), level)
    return _bootstrap(task, a, b, level, paired=True)


def gap_interval(
    task: Task, first: Measurement, second: Measurement, level: float = LEVEL
) -> tuple[float, float] | None:
    """Compute the confidence interval of the difference in accuracy between two sets of examples.

    If every example is right or wrong, it is the interval of Agresti and Caffo 2000 (doi
    10.1080/00031305.2000.10474560). Else it is a bootstrap over the examples of both sets; see
    :func:`drop_interval`.

    Args:
        task: The task with the metric.
        first: Measurement of a network, made with ``by_example``.
        second: Measurement of the same network on other examples, likewise.
        level: Confidence level, in (0, 1).

    Returns:
        The lower and the upper end of first minus second, percentage points. None if a set has fewer than two
        examples, or the metric cannot be computed from examples' statistics.
    """
    a, b = first.example_statistics, second.example_statistics
    if a is None or b is None or min(len(a), len(b)) < 2:
        return None
    if not (_is_additive(task, first) and _is_additive(task, second)):
        return None
    if not (_is_right_or_wrong(task, a) and _is_right_or_wrong(task, b)):
        return _bootstrap(task, a, b, level, paired=False)
    (p, n), (q, m) = ((float(x[:, 0].sum() + 1) / (len(x) + 2), len(x) + 2) for x in (a, b))
    margin = stats.norm.ppf((1 + level) / 2) * math.sqrt(p * (1 - p) / n + q * (1 - q) / m)
    return 100 * max(-1.0, p - q - margin), 100 * min(1.0, p - q + margin)


def meets(interval: tuple[float, float] | None, bound: float) -> str:
    """Return whether a drop is within a bound: ``yes``, ``no``, or ``undecided`` if that is not clear."""
    if interval is None or interval[0] <= bound < interval[1]:
        return "undecided"
    return "yes" if interval[1] <= bound else "no"


def _is_additive(task: Task, measured: Measurement) -> bool:
    assert measured.example_statistics is not None
    return abs(task.metric(measured.example_statistics.sum(0)) - measured.accuracy) < _ADDITIVE


def _is_right_or_wrong(task: Task, example_statistics: Tensor) -> bool:
    """Return whether statistics (N, 2) are one example each, and the metric is the share of right ones."""
    if example_statistics.shape[1:] != (2,):
        return False
    right, counted = example_statistics.double().unbind(1)
    counts = bool((counted == 1).all() and ((right == 0) | (right == 1)).all())
    return counts and math.isclose(task.metric(example_statistics.sum(0)), 100 * float(right.mean()))


def _paired_proportions(worse: int, better: int, pairs: int, level: float) -> tuple[float, float]:
    """Bonett and Price 2012: Wald's interval after adding one pair to each discordant count."""
    worse_share, better_share = (worse + 1) / (pairs + 2), (better + 1) / (pairs + 2)
    drop = worse_share - better_share
    margin = stats.norm.ppf((1 + level) / 2) * math.sqrt((worse_share + better_share - drop**2) / (pairs + 2))
    return 100 * max(-1.0, drop - margin), 100 * min(1.0, drop + margin)


def _bootstrap(task: Task, a: Tensor, b: Tensor, level: float, *, paired: bool) -> tuple[float, float] | None:
    smaller, larger = sorted((len(a), len(b)))
    first = np.random.default_rng(0)
    second = np.random.default_rng(1)
    block = max(1, _BLOCK // larger)
    drops: list[float] = []
    for start in range(0, _DRAWS, block):
        draws = min(block, _DRAWS - start)
        weights = _weights(first, len(a), draws)
        others = weights if paired else _weights(second, len(b), draws)
        resampled = zip(_resample(weights, a), _resample(others, b), strict=True)
        drops += [task.metric(dense) - task.metric(pruned) for dense, pruned in resampled]
    finite = np.array(drops)[np.isfinite(drops)]
    if not len(finite):
        return None
    widened = math.sqrt(smaller / (smaller - 1)) * stats.t.ppf((1 + level) / 2, smaller - 1)
    tail = stats.norm.cdf(-widened)
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)


def _weights(generator: np.random.Generator, size: int, draws: int) -> npt.NDArray[np.float64]:
    """Draw bootstrap samples of N examples: the number of times that each occurs, (D, N)."""
    return generator.multinomial(size, np.full(size, 1 / size), draws).astype(np.float64)


def _resample(weights: npt.NDArray[np.float64], example_statistics: Tensor) -> Tensor:
    """Sum statistics (N, ...) with the weights (D, N) of the draws: (D, ...)."""
    total = torch.from_numpy(weights) @ example_statistics.reshape(len(example_statistics), -1).double()
    total = total if example_statistics.is_floating_point() else total.round()
    return total.reshape(-1, *example_statistics.shape[1:]).to(example_statistics.dtype)
