"""Choose the ranks of layers for a budget of multiply-accumulate operations.

Shapes: R ranks of a layer, of which the last option is the whole layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..io.wording import counted
from .low_rank_layers import RankLayer

Floats = npt.NDArray[np.float64]

_LEAST = 1e-12
"""Smallest share of energy that counts, as its logarithm has to be finite."""


@dataclass(frozen=True)
class _Options:
    """The ranks of a layer, from 1 to the largest that saves operations, and the whole layer."""

    name: str
    costs: Floats
    losses: Floats

    @classmethod
    def of(cls, layer: RankLayer, energies: Tensor) -> _Options:
        """Compute the loss of each rank: the negative logarithm of the share of energy that stays."""
        ranks = np.arange(1, layer.largest + 1)
        kept = energies.double().cumsum(0).numpy()[: layer.largest] / max(float(energies.sum()), 1e-300)
        costs = [*(layer.macs_at(int(rank)) for rank in ranks), layer.macs]
        return cls(
            layer.name,
            np.array(costs, np.float64),
            np.append(-np.log(np.clip(kept, _LEAST, 1.0)), 0.0),
        )

    def best(self, price: float) -> int:
        """Return the option with the smallest loss at a price for each operation, the cheapest of equals."""
        return int(np.argmin(self.losses + price * self.costs))


def choose_ranks(
    layers: Sequence[RankLayer],
    energies: Mapping[str, Tensor],
    macs: float,
    target_macs: float,
    *,
    dense_macs: float | None = None,
) -> dict[str, int]:
    """Choose the ranks of all layers together, so that the product of their shares of energy is large.

    One price for an operation is found by bisection; each layer takes the rank that is best at that price.
    What is left of the budget is then filled, the best step first. The product is that of Zhang et al. 2015,
    arXiv 1505.06798, eq. 12, who descend to it greedily.

    Args:
        layers: The layers.
        energies: What is lost without each direction of a layer, (R,), by module name.
        macs: Multiply-accumulate operations of the whole network for one example.
        target_macs: The most that may stay.
        dense_macs: Those of the network of which the target is a share, for the message; None if it is this
            one.

    Returns:
        By module name the ranks of layers that become two; the others stay whole.

    Raises:
        ValueError: If even rank 1 everywhere is too large.
    """
    options = [_Options.of(layer, energies[layer.name]) for layer in layers]
    rest = macs - sum(layer.macs for layer in layers)

    def total(chosen: Sequence[int]) -> float:
        return rest + sum(float(one.costs[k]) for one, k in zip(options, chosen, strict=True))

    smallest = [int(np.argmin(one.costs)) for one in options]
    if total(smallest) > target_macs:
        asked, share = (each / (dense_macs or macs) for each in (target_macs, total(smallest)))
        raise ValueError(
            f"the target {asked:.4g} of the MACs cannot be reached by low rank: with rank 1 in "
            f"{counted(len(layers), 'layer')} the network keeps {share:.4f}; ask for at least "
            f"{math.ceil(1e3 * share) / 1e3:g}, or cut filters, too"
        )
    low, high = 1e-30, 1e30  # prices; at the high one every layer is as small as can be
    for _ in range(100):
        middle = math.sqrt(low * high)
        fits = total([one.best(middle) for one in options]) <= target_macs
        low, high = (low, middle) if fits else (middle, high)
    chosen = _filled(options, [one.best(high) for one in options], target_macs - rest)
    return {one.name: k + 1 for one, k in zip(options, chosen, strict=True) if k < len(one.costs) - 1}


def _filled(options: Sequence[_Options], chosen: list[int], budget: float) -> list[int]:
    """Take the step with the largest gain for each operation, as long as one fits."""
    chosen = list(chosen)
    while True:
        left = budget - sum(one.costs[k] for one, k in zip(options, chosen, strict=True))
        best: tuple[float, int, int] | None = None
        for number, (one, k) in enumerate(zip(options, chosen, strict=True)):
            extra, gain = one.costs[k + 1 :] - one.costs[k], one.losses[k] - one.losses[k + 1 :]
            rates = np.where((extra <= left) & (gain > 0), gain / np.maximum(extra, 1e-30), -np.inf)
            if len(rates) and rates.max() > (best[0] if best else 0.0):
                best = float(rates.max()), number, k + 1 + int(rates.argmax())
        if best is None:
            return chosen
        chosen[best[1]] = best[2]
