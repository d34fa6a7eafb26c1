"""Traces derived from a trace, without running the network again.

They keep ``pinned`` and ``total_filters`` of the traced network.

Shapes: L layers, N filters of a layer, m positions per filter on an axis.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from .network import Ints, Products, TracedNetwork


def after_cut(network: TracedNetwork, masks: Sequence[npt.NDArray[np.bool_]]) -> TracedNetwork:
    """Derive the trace of the cut network.

    The number and the names of the layers stay, even of layers with a single filter left, which a new trace
    would not list. The cost stays the same function of the kept counts.

    Args:
        network: The trace of the network before the cut.
        masks: One keep mask (N,) per layer.
    """
    removed_by_axis: dict[tuple[str, int], list[Ints]] = defaultdict(list)
    for layer, mask in zip(network.layers, masks, strict=True):
        for slice_ in layer.slices:
            removed_by_axis[slice_.parameter, slice_.axis].append(slice_.index[~mask].ravel())
    removed = {axis: np.sort(np.concatenate(indices)) for axis, indices in removed_by_axis.items()}
    layers = []
    for layer, mask in zip(network.layers, masks, strict=True):
        slices = []
        for slice_ in layer.slices:
            index = slice_.index[mask]  # (N, m)
            removed_before = np.searchsorted(removed[slice_.parameter, slice_.axis], index)
            slices.append(replace(slice_, index=index - removed_before))
        filters = int(mask.sum())
        allowed = layer.allowed[layer.allowed <= filters]
        layers.append(replace(layer, filters=filters, slices=tuple(slices), allowed=allowed))
    return replace(network, layers=tuple(layers))


def restricted(network: TracedNetwork, index: int) -> TracedNetwork:
    """Derive a trace in which only one layer is prunable and all others keep their widths.

    MACs and parameters still count the whole network; filters count the one layer. There is no latency.

    Args:
        network: A trace.
        index: Index of the layer.
    """
    other_widths = network.widths.copy()
    other_widths[index] = 0

    def fold(products: Products) -> Products:
        fixed = products.fixed + products.slope @ other_widths
        return replace(products, fixed=fixed, slope=products.slope[..., [index]])

    sizes = (
        replace(size, fixed=size.fixed + size.slope @ other_widths, slope=size.slope[:, [index]])
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
