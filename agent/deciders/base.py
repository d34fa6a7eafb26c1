"""The interface of deciders, and the size budget that their candidates have to meet.

Shapes: L layers, N filters of a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...envs.cost.counts import size_ratio, smallest_ratio
from ...envs.io.wording import counted
from ...envs.problem.problem import PruningProblem, check_prunable
from ...envs.surgery.constraints import PROTECTED
from ...envs.surgery.plan import Mask, resize_mask
from ...envs.surgery.unreachable import TargetUnreachableError
from ...envs.tracing import Layer, TracedNetwork
from ...rewards import Size

_NAMES = {"macs": "MACs", "params": "parameters"}
"""Sizes in words, where they are not words themselves."""

Priorities = Sequence[npt.NDArray[np.floating]]
"""One array (N,) per layer; removed filters are restored in descending order of these numbers."""


class Decider(Protocol):
    """Choose which filters stay."""

    @property
    def name(self) -> str:
        """The method's name on the command line and in tables."""

    def decide(self, problem: PruningProblem, target: float, size: Size) -> list[list[Mask]]:
        """Propose candidates that meet a size.

        Args:
            problem: The network and its data.
            target: Largest size ratio, pruned / dense, in (0, 1].
            size: The cost that has to meet the target.

        Returns:
            At least one candidate, each with one keep mask (N,) per layer. The decider prefers the first.

        Raises:
            ValueError: If the network exceeds the target even with the fewest filters allowed.
        """


@dataclass(frozen=True)
class Budget:
    """Limit the size of a network.

    Args:
        network: The traced network.
        target: Largest size ratio, pruned / dense, in (0, 1].
        size: The cost that has to meet the target.

    Raises:
        ValueError: If the target is outside (0, 1].
        TargetUnreachableError: If the network has no filters that may go, or exceeds the target even with the
            fewest filters allowed.
    """

    network: TracedNetwork
    target: float
    size: Size

    def __post_init__(self) -> None:
        check_prunable(self.network, "the network")
        if not 0 < self.target <= 1:
            raise ValueError(f"the target is {self.target}; it has to be above 0 and at most 1")
        smallest = smallest_ratio(self.network, self.size)
        if smallest > self.target:
            raise TargetUnreachableError(
                f"the target {self.target:g} of the {_NAMES.get(self.size, self.size)} cannot be reached: "
                f"{self._smallest_network()} the network keeps {smallest:.4f}; "
                f"ask for at least {np.ceil(smallest * 1e3) / 1e3:g}"
            )

    def allows(self, counts: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return which counts of kept filters (..., L) are within the budget, shape (...)."""
        return np.asarray(size_ratio(self.network, counts, self.size) <= self.target + 1e-12)

    def fill(self, masks: Sequence[Mask], priorities: Priorities) -> list[Mask]:
        """Restore removed filters in order of priority while the candidate stays within the budget.

        Each step grows one layer to its next allowed number of filters. If that restores several filters at
        once, as rounding requires, their mean priority counts.

        Args:
            masks: A candidate within the budget.
            priorities: The priority of each filter.

        Returns:
            A candidate that would exceed the budget with any further step.
        """
        layers = self.network.layers
        filled = list(masks)
        grown = [_grow(*each) for each in zip(layers, filled, priorities, strict=True)]
        while True:
            counts = np.array([mask.sum() for mask in filled])
            steps = np.array([mask.sum() for mask in grown]) - counts
            can_grow = (steps > 0) & self.allows(counts + np.diag(steps))
            if not can_grow.any():
                return filled
            step_priorities = [
                float(priority[after & ~before].mean()) if is_open else -np.inf
                for before, after, priority, is_open in zip(filled, grown, priorities, can_grow, strict=True)
            ]
            best = int(np.argmax(step_priorities))
            filled[best] = grown[best]
            grown[best] = _grow(layers[best], filled[best], priorities[best])

    def _smallest_network(self) -> str:
        """Describe the smallest network allowed, for error messages."""
        protected = any(layer.cause.operation == PROTECTED for layer in self.network.pinned)
        if protected or (self.network.min_widths > 1).any():
            return "with the fewest filters that --round-to, --protect and --max-sparsity allow"
        count = len(self.network.layers)
        where = f"each of {counted(count, 'layer')}" if count > 1 else "its only layer"
        return f"with one filter left in {where}"


def _grow(layer: Layer, mask: Mask, priority: npt.NDArray[np.floating]) -> Mask:
    """Grow a layer to its next allowed number of filters; return the mask of a full layer unchanged."""
    larger = layer.allowed[layer.allowed > mask.sum()]
    return resize_mask(mask, int(larger[0]), priority) if len(larger) else mask


def keep_top(scores: npt.NDArray[np.floating], count: int) -> Mask:
    """Keep the ``count`` filters with the highest scores (N,), at least one; earlier filters win ties."""
    return resize_mask(np.zeros(len(scores), np.bool_), max(1, count), scores)
