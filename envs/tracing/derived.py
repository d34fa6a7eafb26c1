"""Traces derived from a trace, without running the network again.

They keep ``pinned`` and ``total_filters`` of the traced network.

Shapes: L layers, N filters of a layer, m positions per filter on an axis.
"""

from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from .network import Ints, Products, Slice, TracedNetwork

Mask = npt.NDArray[np.bool_]


def after_cut(network: TracedNetwork, masks: Sequence[Mask]) -> TracedNetwork:
    """Derive the trace of the cut network.

    The number and the names of the layers stay, even of layers with a single filter left, which a new trace
    would not list. The cost stays the same function of the kept counts.

    Args:
        network: The trace of the network before the cut.
        masks: One keep mask (N,) per layer.
    """
    axes = {(slice_.parameter, slice_.axis) for layer in network.layers for slice_ in layer.slices}
    shift = _Shift(network, masks, axes)
    layers = []
    for layer, mask in zip(network.layers, masks, strict=True):
        slices = [replace(slice_, index=shift(slice_, mask)) for slice_ in layer.slices]
        filters = int(mask.sum())
        allowed = layer.allowed[layer.allowed <= filters]
        layers.append(replace(layer, filters=filters, slices=tuple(slices), allowed=allowed))
    return replace(network, layers=tuple(layers))


def fingerprints_after_cut(network: TracedNetwork, masks: Sequence[Mask]) -> dict[str, str]:
    """Return, by name, the fingerprint of each layer in the trace of the cut network.

    Args:
        network: The trace of the network before the cut.
        masks: One keep mask (N,) per layer.
    """
    pairs = [pair for pair in zip(network.layers, masks, strict=True) if pair[0].slices]
    mains = [layer.main_slice for layer, _ in pairs]
    shift = _Shift(network, masks, {(main.parameter, main.axis) for main in mains})
    return {layer.name: layer.fingerprint_at(shift(layer.main_slice, mask)) for layer, mask in pairs}


class _Shift:
    """Find positions after a cut.

    Args:
        network: The trace of the network before the cut.
        masks: One keep mask (N,) per layer.
        axes: The axes, each of a parameter, that are asked about.
    """

    def __init__(self, network: TracedNetwork, masks: Sequence[Mask], axes: Set[tuple[str, int]]) -> None:
        removed: dict[tuple[str, int], list[Ints]] = defaultdict(list)
        for layer, mask in zip(network.layers, masks, strict=True):
            for slice_ in layer.slices:
                if (slice_.parameter, slice_.axis) in axes:
                    removed[slice_.parameter, slice_.axis].append(slice_.index[~mask].ravel())
        self._removed = {axis: np.sort(np.concatenate(indices)) for axis, indices in removed.items()}

    def __call__(self, slice_: Slice, mask: Mask) -> Ints:
        """Return the new positions of the filters that a mask (N,) keeps, (n, m)."""
        index = slice_.index[mask]
        return np.asarray(index - np.searchsorted(self._removed[slice_.parameter, slice_.axis], index))


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
