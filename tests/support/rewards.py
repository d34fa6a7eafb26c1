"""Rewards of all kinds that a user may write."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from secateur.rewards import Outcome


def frugal(outcome: Outcome) -> float:
    """Pay for accuracy and for MACs that are gone."""
    return outcome.accuracy / 100 - outcome.macs_ratio


class Weighed:
    """Have a setting, and nothing else of a reward."""

    def __init__(self, weight: float = 2.0) -> None:
        self.weight = np.float32(weight)
        self.weights = np.ones(3)
        self._secret = object()

    def __call__(self, outcome: Outcome) -> float:
        return outcome.accuracy / 100 - self.weight * outcome.macs_ratio


class Whole:
    """Have all of a reward, in a class of its own."""

    size = "params"
    target = None
    drop_bound = 3

    def __call__(self, outcome: Outcome) -> float:
        return frugal(outcome)


@dataclass
class Aiming:
    """Want a size, and be silent about bounds."""

    target: float = 0.4

    def __call__(self, outcome: Outcome) -> float:
        return -abs(outcome.macs_ratio - self.target)


def raised(outcome: Outcome, power: int) -> float:
    return frugal(outcome) ** power


ANY: dict[str, Callable[[Outcome], Any]] = {
    "function": frugal,
    "lambda": lambda outcome: np.float32(outcome.accuracy),
    "partial": functools.partial(raised, power=3),
    "object": Weighed(),
    "whole": Whole(),
    "dataclass": Aiming(),
    "method": Weighed(1.0).__call__,
}
