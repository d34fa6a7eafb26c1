"""The cost of a network as a function of kept counts: MACs, parameters, filters and predicted latency.

Shapes: L layers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...rewards import Size
from ..tracing import TracedNetwork


@dataclass(frozen=True)
class Cost:
    """The size of one network.

    Args:
        macs: Multiply-accumulate operations of convolutions and matrix products for one example.
        params: Number of parameters.
        filters: Number of filters of all prunable layers.
    """

    macs: int
    params: int
    filters: int


def cost(network: TracedNetwork, kept: npt.ArrayLike | None = None) -> Cost:
    """Count the cost of a cut.

    Args:
        network: A traced network.
        kept: Kept filters of each layer, shape (L,); None for the dense network.
    """
    counts = network.widths if kept is None else np.asarray(kept)
    return Cost(
        macs=round(float(network.macs(counts))),
        params=round(float(network.params(counts))),
        filters=int(counts.sum()),
    )


def smallest_ratio(network: TracedNetwork, size: Size) -> float:
    """Return the smallest size ratio that pinned filters and constraints allow, in (0, 1].

    Args:
        network: A traced network.
        size: The cost that counts as size.
    """
    return float(size_ratio(network, network.min_widths, size))


def size_ratio(network: TracedNetwork, kept: npt.ArrayLike, size: Size) -> npt.NDArray[np.float64]:
    """Return the size ratios of cuts.

    Args:
        network: A traced network.
        kept: Kept filters of each layer, shape (..., L).
        size: The cost that counts as size.

    Returns:
        Pruned / dense, shape (...), in [0, 1]. A latency ratio can exceed 1: odd widths can be slower.

    Raises:
        ValueError: If ``size`` is the latency and the trace has no latency table.
    """
    counts = np.asarray(kept)
    if size == "filters":
        return np.asarray(counts.sum(axis=-1) / network.widths.sum())
    if size == "latency" and network.latency is None:
        raise ValueError(
            "the network has no latency; give it one with secateur.envs.cost.profiling.with_latency, "
            "or count filters, params or macs"
        )
    costs = {"params": network.params, "macs": network.macs, "latency": network.latency}[size]
    assert costs is not None
    return np.asarray(costs(counts) / costs(network.widths))
