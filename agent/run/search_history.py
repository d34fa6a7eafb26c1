"""What a search has seen so far, as plain numbers: for figures, for the report."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Columns = dict[str, list[float]]
"""``macs_ratio``, ``accuracy``, ``loss`` and ``meets_target`` (0 or 1) of candidates, in one order."""


@dataclass(frozen=True)
class Candidate:
    """One measured candidate.

    Args:
        network: Name of the network that it was cut from.
        macs_ratio: Pruned / dense, in [0, 1].
        accuracy: On the images that the search looks at, percent.
        loss: Likewise.
        reward: What the agent got for it.
        meets_target: Whether it is as small, or as accurate, as was wanted.
    """

    network: str
    macs_ratio: float
    accuracy: float
    loss: float
    reward: float
    meets_target: bool


@dataclass
class SearchHistory:
    """All that was measured, in the order of the search.

    Args:
        candidates: One by one.
        rewards: Mean reward of each update's candidates.
        keep_ratios: Of each update, by layer: the mean over its candidates, which is the layer's mean keep
            probability as far as so many draws tell.
    """

    candidates: list[Candidate] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    keep_ratios: list[dict[str, float]] = field(default_factory=list)

    def clouds(self) -> dict[str, Columns]:
        """Give each network's candidates as short lists, one a quantity: 25 bytes of JSON a candidate."""
        by_network: dict[str, list[Candidate]] = defaultdict(list)
        for one in self.candidates:
            by_network[one.network].append(one)
        return {
            network: {
                "macs_ratio": [round(one.macs_ratio, 4) for one in own],
                "accuracy": [round(one.accuracy, 2) for one in own],
                "loss": [round(one.loss, 4) for one in own],
                "meets_target": [int(one.meets_target) for one in own],
            }
            for network, own in by_network.items()
        }


def pareto(sizes: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Find the candidates that no other one beats in size without being less accurate.

    Args:
        sizes: Of the candidates, smaller is better.
        accuracies: Higher is better.

    Returns:
        Their indices, from small to large; of equal ones the first.
    """
    front: list[int] = []
    best = -np.inf
    for index in sorted(range(len(sizes)), key=lambda k: (sizes[k], -accuracies[k])):
        if accuracies[index] > best:
            front.append(index)
            best = accuracies[index]
    return front
