"""How sure an accuracy drop is: both networks were measured on the same examples, so examples are paired.

Shapes: N examples, or groups of them, D draws.
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
"""Share of such intervals that hold the drop on all the examples that these are drawn from."""

_DRAWS = 2000

_WEIGHTS_AT_ONCE = 2**24
"""Numbers of a block of draws."""

_ADDS_UP = 1e-3
"""Points by which a metric of all examples may differ from that of their sum."""


def drop_interval(task: Task, dense: Measurement, pruned: Measurement) -> tuple[float, float] | None:
    """Give an interval that holds the accuracy drop with a confidence of 95 %.

    Where every example is right or wrong, the adjusted Wald interval of Bonett and Price 2012 (doi
    10.3102/1076998611411915), which Fagerland et al. 2014 (doi 10.1002/sim.6148) recommend for any number of
    pairs. Else the bootstrap over examples, drawn alike for both networks, with percentiles widened for few
    examples (Hesterberg 2014, arXiv 1411.5279).

    Args:
        task: Its metric.
        dense: Measured with ``by_example``.
        pruned: Likewise, on the same examples.

    Returns:
        The lower and the upper end, percentage points; 0 and 0 where both networks answer alike. None where
        there are fewer than two examples, or the metric is not made of what is known of single ones.
    """
    one, other = dense.pieces, pruned.pieces
    if one is None or other is None or len(one) < 2 or not (_adds_up(task, dense) and _adds_up(task, pruned)):
        return None
    if torch.equal(one, other) and dense.loss == pruned.loss:
        return 0.0, 0.0
    if _is_right_or_wrong(task, one) and _is_right_or_wrong(task, other):
        change = (one[:, 0] - other[:, 0]).numpy()
        return _paired_proportions(int((change > 0).sum()), int((change < 0).sum()), len(change))
    return _bootstrap(task, one, other)


def meets(interval: tuple[float, float] | None, bound: float) -> str:
    """Say whether a drop is within a bound: ``yes``, ``no``, or ``undecided`` where that is not known."""
    if interval is None or interval[0] <= bound < interval[1]:
        return "undecided"
    return "yes" if interval[1] <= bound else "no"


def _adds_up(task: Task, measured: Measurement) -> bool:
    assert measured.pieces is not None
    return abs(task.metric(measured.pieces.sum(0)) - measured.accuracy) < _ADDS_UP


def _is_right_or_wrong(task: Task, pieces: Tensor) -> bool:
    """Say whether statistics (N, 2) count an example each, and the metric is the share of the right ones."""
    if pieces.shape[1:] != (2,):
        return False
    right, counted = pieces.double().unbind(1)
    counts = bool((counted == 1).all() and ((right == 0) | (right == 1)).all())
    return counts and math.isclose(task.metric(pieces.sum(0)), 100 * float(right.mean()))


def _paired_proportions(lost: int, won: int, pairs: int) -> tuple[float, float]:
    """Bonett and Price 2012: Wald's interval after one more pair of each discordant kind."""
    lost_share, won_share = (lost + 1) / (pairs + 2), (won + 1) / (pairs + 2)
    drop = lost_share - won_share
    spread = stats.norm.ppf((1 + LEVEL) / 2) * math.sqrt((lost_share + won_share - drop**2) / (pairs + 2))
    return 100 * max(-1.0, drop - spread), 100 * min(1.0, drop + spread)


def _bootstrap(task: Task, one: Tensor, other: Tensor) -> tuple[float, float] | None:
    size = len(one)
    generator = np.random.default_rng(0)
    block = max(1, _WEIGHTS_AT_ONCE // size)
    drops: list[float] = []
    for start in range(0, _DRAWS, block):
        draws = min(block, _DRAWS - start)
        weights = generator.multinomial(size, np.full(size, 1 / size), draws).astype(np.float64)  # (D, N)
        drawn = zip(_drawn(weights, one), _drawn(weights, other), strict=True)
        drops += [task.metric(a) - task.metric(b) for a, b in drawn]
    known = np.array(drops)[np.isfinite(drops)]
    if not len(known):
        return None
    widened = math.sqrt(size / (size - 1)) * stats.t.ppf((1 + LEVEL) / 2, size - 1)
    tail = stats.norm.cdf(-widened)
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def _drawn(weights: npt.NDArray[np.float64], pieces: Tensor) -> Tensor:
    """Sum statistics (N, ...) with the weights (D, N) of every draw: (D, ...)."""
    total = torch.from_numpy(weights) @ pieces.reshape(len(pieces), -1).double()
    total = total if pieces.is_floating_point() else total.round()
    return total.reshape(-1, *pieces.shape[1:]).to(pieces.dtype)
