"""What a network costs: MACs, parameters and filters from kept counts, and measured latency.

Shapes: B candidates, L layers.
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
        filters: Output channels of all layers that can be decided about.
    """

    macs: int
    params: int
    filters: int


def cost(network: TracedNetwork, kept: npt.ArrayLike | None = None) -> Cost:
    """Count a cut of ``network``.

    Args:
        network: A trace.
        kept: Kept filters of each layer, shape (L,); None for the dense network.
    """
    counts = network.widths if kept is None else np.asarray(kept)
    return Cost(
        macs=round(float(network.macs(counts))),
        params=round(float(network.params(counts))),
        filters=int(counts.sum()),
    )


def smallest_ratio(network: TracedNetwork, size: Size) -> float:
    """Give the smallest size ratio that pinned filters and constraints allow, in (0, 1].

    Args:
        network: A trace.
        size: What counts.
    """
    return float(size_ratio(network, network.min_widths, size))


def size_ratio(network: TracedNetwork, kept: npt.ArrayLike, size: Size) -> npt.NDArray[np.float64]:
    """Compare the size of cuts with the dense network.

    Args:
        network: A trace.
        kept: Kept filters of each layer, shape (..., L).
        size: What counts.

    Returns:
        Pruned / dense, shape (...); in [0, 1], but for latencies: an odd count can be slower than a full one.

    Raises:
        ValueError: If the latency counts and the network has no table of it.
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
