"""Traces that follow from a trace, without another run of the network.

They keep ``pinned`` and ``total_filters`` of the network that was traced.

Shapes: L layers, N filters of a layer, m positions a filter takes on an axis.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from .network import Ints, Products, TracedNetwork


def after_cut(network: TracedNetwork, masks: Sequence[npt.NDArray[np.bool_]]) -> TracedNetwork:
    """Give the trace of the network that a cut leaves.

    Layers keep their names and their number, also where a single filter is left, which a new trace would not
    find again. The cost of kept filters stays the same function of their counts.

    Args:
        network: A trace of the network before the cut.
        masks: One keep mask (N,) a layer.
    """
    gone: dict[tuple[str, int], list[Ints]] = defaultdict(list)
    for layer, mask in zip(network.layers, masks, strict=True):
        for where in layer.slices:
            gone[where.parameter, where.axis].append(where.index[~mask].ravel())
    removed = {place: np.sort(np.concatenate(parts)) for place, parts in gone.items()}
    layers = []
    for layer, mask in zip(network.layers, masks, strict=True):
        slices = []
        for where in layer.slices:
            index = where.index[mask]  # (N, m)
            lower = np.searchsorted(removed[where.parameter, where.axis], index)
            slices.append(replace(where, index=index - lower))
        filters = int(mask.sum())
        allowed = layer.allowed[layer.allowed <= filters]
        layers.append(replace(layer, filters=filters, slices=tuple(slices), allowed=allowed))
    return replace(network, layers=tuple(layers))


def restricted(network: TracedNetwork, index: int) -> TracedNetwork:
    """Give a trace in which one layer alone can be decided about, and all others stay as wide as they are.

    MACs and parameters are still the whole network's; filters are the one layer's. There is no latency.

    Args:
        network: A trace.
        index: Of the layer.
    """
    others = network.widths.copy()
    others[index] = 0

    def fold(products: Products) -> Products:
        fixed = products.fixed + products.slope @ others
        return replace(products, fixed=fixed, slope=products.slope[..., [index]])

    sizes = (
        replace(size, fixed=size.fixed + size.slope @ others, slope=size.slope[:, [index]])
        for size in network.sizes
    )
    return replace(
        network,
        layers=(network.layers[index],),
        macs=fold(network.macs),
        params=fold(network.params),
        sizes=tuple(sizes),
        latency=None,
    )
