"""Trial cuts: which layers of a traced network cannot be cut exactly, and to how few filters the others can.

Shapes: L layers, N filters of a layer.
"""

import math
import re
from collections.abc import Callable, Sequence
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
    """Find the layers among those chosen whose cuts are not exact; ``first`` is a draw.

    Layers of repeated blocks, whose names differ in numbers only, fail for one reason. So if one of them
    does, the others are tried together, which takes few trials in a deep network.
    """

    def error_of(numbers: Sequence[int]) -> InexactCutError | None:
        actual = [mask if number in numbers else np.ones_like(mask) for number, mask in enumerate(masks)]
        plan = PruningPlan.from_masks(network, actual)
        try:
            probe.check(network, plan, modes, first=first, visible=first == 0)
        except InexactCutError as error:
            return error
        return None

    found: Culprits = {}
    remaining = list(chosen)
    while remaining and (error := error_of(remaining)):
        culprits = _smallest(remaining, error, error_of)
        (one, *_) = culprits
        alike = [k for k in remaining if _block(network, k) == _block(network, one) and k not in culprits]
        if len(culprits) == 1 and alike and (of_others := error_of(alike)):
            culprits |= dict.fromkeys(alike, of_others)
        found |= culprits
        remaining = [number for number in remaining if number not in culprits]
    return found


def _smallest(
    numbers: Sequence[int],
    error: InexactCutError,
    error_of: Callable[[Sequence[int]], InexactCutError | None],
) -> Culprits:
    """Halve layers that fail together until one is left, or layers of which neither half fails."""
    while len(numbers) > 1:
        middle = len(numbers) // 2
        for half in (numbers[:middle], numbers[middle:]):
            if (of_half := error_of(half)) is not None:
                numbers, error = half, of_half
                break
        else:
            break
    return dict.fromkeys(numbers, error)


def _block(network: TracedNetwork, number: int) -> str:
    """Return the name of a layer without the numbers of the blocks that it is in."""
    return re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", network.layers[number].name)


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
