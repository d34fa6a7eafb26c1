"""The history of a search as plain numbers, for figures and the report."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Columns = dict[str, list[float]]
"""``macs_ratio``, ``accuracy``, ``loss`` and ``meets_target`` (0 or 1) of candidates, in the same order."""


@dataclass(frozen=True)
class Candidate:
    """One measured candidate.

    Args:
        network: Name of the network that it was cut from.
        macs_ratio: Pruned / dense, in [0, 1].
        accuracy: Accuracy on the images of the search, percent.
        loss: Mean loss on the same images.
        reward: Reward of the candidate.
        meets_target: Whether it meets the target and the drop bound of the reward.
    """

    network: str
    macs_ratio: float
    accuracy: float
    loss: float
    reward: float
    meets_target: bool


@dataclass
class SearchHistory:
    """All measured candidates, in the order of the search.

    Args:
        candidates: The candidates.
        rewards: Mean reward of each update's candidates.
        keep_ratios: For each update, the mean keep ratio of each layer over its candidates, an estimate of
            the layer's mean keep probability.
    """

    candidates: list[Candidate] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    keep_ratios: list[dict[str, float]] = field(default_factory=list)

    def clouds(self) -> dict[str, Columns]:
        """Return each network's candidates as columns of rounded numbers: 25 bytes of JSON per candidate."""
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
    """Find the Pareto front of candidates by size and accuracy.

    Args:
        sizes: Sizes of the candidates, smaller is better.
        accuracies: Their accuracies, higher is better.

    Returns:
        Indices of the front, from small to large; of equal candidates the first.
    """
    front: list[int] = []
    best = -np.inf
    for index in sorted(range(len(sizes)), key=lambda k: (sizes[k], -accuracies[k])):
        if accuracies[index] > best:
            front.append(index)
            best = accuracies[index]
    return front
