"""The history of a search as plain numbers, for figures and the report."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Columns = dict[str, list[float]]
"""``macs_ratio``, ``accuracy``, ``loss`` and ``meets_target`` (0 or 1), one value per candidate."""


@dataclass(frozen=True)
class Candidate:
    """One measured candidate.

    Args:
        network: Name of the dense network.
        macs_ratio: MACs, pruned / dense, in [0, 1].
        accuracy: The task's metric on the search's images, percent.
        loss: Mean loss on the search's images.
        reward: The reward of the candidate.
        meets_target: Whether the candidate meets the target or the drop bound.
    """

    network: str
    macs_ratio: float
    accuracy: float
    loss: float
    reward: float
    meets_target: bool


@dataclass
class SearchHistory:
    """All measured candidates and the means of each update, in the order of the search.

    Args:
        candidates: The measured candidates.
        rewards: Mean reward of each update's candidates.
        keep_ratios: Mean keep ratio of each update's candidates, by layer; an estimate of the layer's mean
            keep probability.
    """

    candidates: list[Candidate] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    keep_ratios: list[dict[str, float]] = field(default_factory=list)

    def columns_by_network(self) -> dict[str, Columns]:
        """Return each network's candidates as rounded columns, about 25 bytes of JSON per candidate."""
        candidates_of: dict[str, list[Candidate]] = defaultdict(list)
        for candidate in self.candidates:
            candidates_of[candidate.network].append(candidate)
        return {
            network: {
                "macs_ratio": [round(candidate.macs_ratio, 4) for candidate in candidates],
                "accuracy": [round(candidate.accuracy, 2) for candidate in candidates],
                "loss": [round(candidate.loss, 4) for candidate in candidates],
                "meets_target": [int(candidate.meets_target) for candidate in candidates],
            }
            for network, candidates in candidates_of.items()
        }


def pareto(sizes: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Find the Pareto front: candidates for which no other is at least as small and at least as accurate.

    Args:
        sizes: Sizes of the candidates; smaller is better.
        accuracies: Accuracies of the candidates; higher is better.

    Returns:
        Indices of the front in ascending order of size; of equal candidates the first.
    """
    front: list[int] = []
    best = -np.inf
    for index in sorted(range(len(sizes)), key=lambda k: (sizes[k], -accuracies[k])):
        if accuracies[index] > best:
            front.append(index)
            best = accuracies[index]
    return front
