"""The interface of deciders, and the budget that their candidates have to meet.

Shapes: L layers, N filters of a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...envs.cost.counts import size_ratio, smallest_ratio
from ...envs.problem.problem import PruningProblem
from ...envs.surgery.constraints import PROTECTED
from ...envs.surgery.cutting import Mask
from ...envs.surgery.plan import resize_mask
from ...envs.tracing import Layer, TracedNetwork
from ...rewards import Size

Priorities = Sequence[npt.NDArray[np.floating]]
"""One array (N,) per layer: removed filters with higher priorities are restored first."""


class Decider(Protocol):
    """A method that chooses the filters to keep."""

    @property
    def name(self) -> str:
        """Name on the command line and in tables."""

    def decide(self, problem: PruningProblem, target: float, size: Size) -> list[list[Mask]]:
        """Propose candidates that meet a size.

        Args:
            problem: The problem with the network.
            target: Largest size ratio, pruned / dense, in (0, 1].
            size: The cost that counts as size.

        Returns:
            At least one candidate, each with one keep mask (N,) per layer; the first is the decider's choice.

        Raises:
            ValueError: If the target is smaller than the smallest allowed network.
        """


@dataclass(frozen=True)
class Budget:
    """A size that candidates must not exceed.

    Args:
        network: A trace.
        target: Largest size ratio, pruned / dense, in (0, 1].
        size: The cost that counts as size.

    Raises:
        ValueError: If the target is outside (0, 1], or smaller than the smallest allowed network.
    """

    network: TracedNetwork
    target: float
    size: Size

    def __post_init__(self) -> None:
        if not 0 < self.target <= 1:
            raise ValueError(f"the target is {self.target}; it has to be above 0 and at most 1")
        smallest = smallest_ratio(self.network, self.size)
        if smallest > self.target:
            raise ValueError(
                f"the target {self.target:g} of the {self.size} cannot be reached: {self._describe_limit()} "
                f"the network keeps {smallest:.4f}; "
                f"ask for at least {np.ceil(smallest * 1e3) / 1e3:g}"
            )

    def allows(self, counts: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return which kept counts (..., L) are within the budget, shape (...)."""
        return np.asarray(size_ratio(self.network, counts, self.size) <= self.target + 1e-12)

    def fill(self, masks: Sequence[Mask], priorities: Priorities) -> list[Mask]:
        """Restore removed filters in order of priority until the budget is used up.

        Each step grows one layer to its next allowed count. That is one filter, or several under constraints;
        then their mean priority counts.

        Args:
            masks: A candidate within the budget, one keep mask (N,) per layer.
            priorities: Priorities of the filters.

        Returns:
            A candidate that no further step fits.
        """
        layers = self.network.layers
        filled = list(masks)
        grown = [_grown(*each) for each in zip(layers, filled, priorities, strict=True)]
        while True:
            counts = np.array([mask.sum() for mask in filled])
            steps = np.array([mask.sum() for mask in grown]) - counts
            open_layers = (steps > 0) & self.allows(counts + np.diag(steps))
            if not open_layers.any():
                return filled
            best = [
                float(priority[after & ~before].mean()) if is_open else -np.inf
                for before, after, priority, is_open in zip(
                    filled, grown, priorities, open_layers, strict=True
                )
            ]
            layer = int(np.argmax(best))
            filled[layer] = grown[layer]
            grown[layer] = _grown(layers[layer], filled[layer], priorities[layer])

    def _describe_limit(self) -> str:
        """Describe the smallest allowed network, for a message."""
        protected = any(layer.cause.operation == PROTECTED for layer in self.network.pinned)
        if protected or (self.network.min_widths > 1).any():
            return "with the fewest filters that --round-to, --protect and --max-sparsity allow"
        return f"with one filter left in each of {len(self.network.layers)} layers"


def _grown(layer: Layer, mask: Mask, priority: npt.NDArray[np.floating]) -> Mask:
    """Grow a layer to its next allowed count; a dense layer stays."""
    larger = layer.allowed[layer.allowed > mask.sum()]
    return resize_mask(mask, int(larger[0]), priority) if len(larger) else mask


def keep_top(scores: npt.NDArray[np.floating], count: int) -> Mask:
    """Keep the ``count`` filters with the highest scores (N,); at least one, ties by position."""
    return resize_mask(np.zeros(len(scores), np.bool_), max(1, count), scores)
