"""Trial cuts: which layers of a traced network cannot be cut exactly, and to how few filters the others can.

Shapes: L layers, N filters of a layer.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..tracing import Layer, TracedNetwork
from .plan import Mask, PruningPlan
from .probe import InexactCutError, Probe

Culprits = dict[int, InexactCutError]
"""Layers, by their number, whose cuts are not exact, with the error of each."""

_EVALUATION, _BOTH_MODES = (False,), (False, True)
"""Modes in which a trial cut runs. One that does in training mode is enough: others cost passes."""

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


def try_cuts(probe: Probe, network: TracedNetwork, chosen: Sequence[int] | None = None) -> Culprits:
    """Cut all layers to between a quarter and three quarters of their filters, in both modes.

    The first filters go: symmetric cuts hide constants like ``channels // 2``.

    Args:
        probe: Tries the cuts.
        network: The trace.
        chosen: Numbers of the layers to cut; None for all.
    """
    chosen = range(len(network.layers)) if chosen is None else chosen
    counts = [_between(layer, number) for number, layer in enumerate(network.layers)]
    masks = [_mask(layer, count, last=True) for layer, count in zip(network.layers, counts, strict=True)]
    return _search(probe, network, masks, chosen, _BOTH_MODES)


def try_extremes(probe: Probe, network: TracedNetwork) -> tuple[TracedNetwork, Culprits]:
    """Cut every other layer as far as possible while those between are whole, and the reverse.

    This shows widths that code compares with a number, as in ``min(8, channels)``; axes of length one that it
    drops; and parts of a tensor that it tells apart by their share, as in ``x[:, : x.shape[1] // 4]``.

    Returns:
        The network, in which layers that fail keep at least the count that :func:`try_cuts` tried; and those
        that fail even so.
    """
    culprits = _alternate(probe, network)
    if not culprits:
        return network, {}
    layers = list(network.layers)
    for number in culprits:
        least = _between(layers[number], number)
        allowed = layers[number].allowed
        layers[number] = replace(layers[number], allowed=allowed[allowed >= least], exact_from=least)
    limited = replace(network, layers=tuple(layers))
    return limited, _alternate(probe, limited)


def _alternate(probe: Probe, network: TracedNetwork) -> Culprits:
    culprits: Culprits = {}
    for parity in (0, 1):
        masks = [_mask(layer, int(layer.allowed[0]), last=False) for layer in network.layers]
        culprits |= _search(probe, network, masks, range(parity, len(masks), 2), _EVALUATION, first=1)
    return culprits


def _search(
    probe: Probe,
    network: TracedNetwork,
    masks: Sequence[Mask],
    chosen: Sequence[int],
    modes: Sequence[bool],
    first: int = 0,
) -> Culprits:
    """Find the layers among those chosen whose cuts are not exact, by bisection; ``first`` is a draw."""
    actual = [mask if number in chosen else np.ones_like(mask) for number, mask in enumerate(masks)]
    try:
        probe.check(network, PruningPlan.from_masks(network, actual), modes, first=first, visible=first == 0)
    except InexactCutError as error:
        middle = len(chosen) // 2
        halves = (chosen[:middle], chosen[middle:]) if middle else ()
        found = {
            k: e for half in halves for k, e in _search(probe, network, masks, half, modes, first).items()
        }
        return found or dict.fromkeys(chosen, error)  # one layer, or layers that fail only together
    return {}


def _between(layer: Layer, number: int) -> int:
    """Return how many filters of a layer a trial cut keeps.

    The golden ratio gives each layer another share, because equal shares hide sizes that are mistaken for
    those of another layer.
    """
    share = 0.25 + 0.5 * (_GOLDEN * (number + 1) % 1.0)
    gone = min(layer.filters - 1, max(1, round(share * layer.filters)))
    return layer.nearest_allowed(layer.filters - gone)


def _mask(layer: Layer, kept: int, *, last: bool) -> Mask:
    """Keep the last or the first filters of a layer."""
    mask = np.zeros(layer.filters, np.bool_)
    mask[slice(layer.filters - kept, None) if last else slice(kept)] = True
    return mask
