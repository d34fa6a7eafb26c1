"""What decides which filters stay, behind one interface: give me masks that meet a size.

Shapes: L layers, N filters of a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..envs.cost import size_ratio
from ..envs.problem import PruningProblem
from ..envs.surgery import Mask
from ..envs.tracing import TracedNetwork
from ..rewards import Size

Priorities = Sequence[npt.NDArray[np.floating]]
"""One array (N,) a layer: of two removed filters the one with the higher number comes back first."""


class Decider(Protocol):
    """A way to choose filters."""

    @property
    def name(self) -> str:
        """What it is called on the command line and in tables."""

    def decide(self, problem: PruningProblem, target: float, size: Size) -> list[list[Mask]]:
        """Propose candidates that meet a size.

        Args:
            problem: The network.
            target: Largest size ratio, pruned / dense, in (0, 1].
            size: What counts.

        Returns:
            At least one candidate, each with one keep mask (N,) a layer; the first is the decider's own
            choice.

        Raises:
            ValueError: If even one filter a layer is more than the target.
        """


@dataclass(frozen=True)
class Budget:
    """A size that must not be exceeded.

    Args:
        network: A trace.
        target: Largest size ratio, in (0, 1].
        size: What counts.

    Raises:
        ValueError: If the target is outside (0, 1], or even one filter a layer is more than it.
    """

    network: TracedNetwork
    target: float
    size: Size

    def __post_init__(self) -> None:
        if not 0 < self.target <= 1:
            raise ValueError(f"the target is {self.target}; it has to be above 0 and at most 1")
        if self.smallest > self.target:
            raise ValueError(
                f"the target {self.target:g} of the {self.size} cannot be reached: with one filter left in "
                f"each of {len(self.network.layers)} layers the network keeps {self.smallest:.4f}; "
                f"ask for at least {np.ceil(self.smallest * 1e3) / 1e3:g}"
            )

    @property
    def smallest(self) -> float:
        """The smallest size ratio that pinned filters allow."""
        return float(size_ratio(self.network, np.ones(len(self.network.layers), np.int64), self.size))

    def allows(self, counts: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Say which kept counts (..., L) are within the budget, shape (...)."""
        return np.asarray(size_ratio(self.network, counts, self.size) <= self.target + 1e-12)

    def fill(self, masks: Sequence[Mask], priorities: Priorities) -> list[Mask]:
        """Bring back removed filters, the most important first, as long as there is room.

        Args:
            masks: A candidate within the budget.
            priorities: Which filters come back first.

        Returns:
            A candidate to which no filter can be added.
        """
        filled = [mask.copy() for mask in masks]
        counts = np.array([mask.sum() for mask in filled])
        one_more = np.eye(len(filled), dtype=np.int64)
        while True:
            open_layers = (counts < self.network.widths) & self.allows(counts + one_more)
            if not open_layers.any():
                return filled
            best = [
                float(priority[~mask].max()) if is_open else -np.inf
                for mask, priority, is_open in zip(filled, priorities, open_layers, strict=True)
            ]
            layer = int(np.argmax(best))
            removed = np.flatnonzero(~filled[layer])
            filled[layer][removed[int(np.argmax(priorities[layer][removed]))]] = True
            counts[layer] += 1


def keep_top(scores: npt.NDArray[np.floating], count: int) -> Mask:
    """Keep the ``count`` filters with the highest scores (N,); at least one, ties by position."""
    mask = np.zeros(len(scores), np.bool_)
    mask[np.argsort(-scores, kind="stable")[: max(1, count)]] = True
    return mask
