"""Traces under constraints: protected layers are pinned, and the allowed counts of filters are limited.

Shapes: L layers, N filters of a layer.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import nn

from ..io.suggestions import did_you_mean
from ..modules.calls import AlsoTrace
from ..tracing import Cause, Layer, Pin, Slice, TracedNetwork, trace
from ..tracing.network import Ints
from .constraints import PROTECTED, Constraints, parse_call
from .unreachable import TargetUnreachableError
from .verification import trace_exactly

T = TypeVar("T")


class _Axis(NamedTuple):
    """The axis of a producer's weight that contains a layer's filters."""

    channels: int  # length of the axis, including other layers' and pinned channels
    each: int  # channels per filter
    shared: bool  # whether another layer has filters on it


def trace_constrained(
    model: nn.Module, example: torch.Tensor | tuple[Any, ...], constraints: Constraints
) -> TracedNetwork:
    """Trace a network exactly, pin protected layers, and limit the allowed counts of the others.

    Args:
        model: Any CNN.
        example: A batch of at least two inputs; see :func:`secateur.envs.surgery.verification.trace_exactly`.
        constraints: The constraints.

    Raises:
        ValueError: If the model does not run on ``example``, a pattern matches no layer, or no prunable
            filter is left.
    """
    calls = [_call(*parse_call(word)) for word in constraints.also_trace]
    traced: Any = {"also_trace": calls, "allow_inexact": constraints.allow_inexact}
    if not constraints.protect:
        return constrain(trace_exactly(model, example, size=constraints.sizes, **traced), model, constraints)
    unprotected = trace(model, example, **traced)
    _check_patterns(constraints.protect, unprotected)
    pins = [pin for layer in unprotected.layers if (pin := _pin(layer, constraints.protect))]
    network = trace_exactly(model, example, pins=pins, size=constraints.sizes, **traced)
    if unprotected.layers and not network.layers:
        raise TargetUnreachableError(
            f"--protect {' '.join(constraints.protect)} leaves no filter to prune; protect less"
        )
    return constrain(network, model, constraints)


def _call(method: str, shape: tuple[int, ...]) -> AlsoTrace:
    return (method, torch.zeros(2, *shape)) if shape else method


def constrain(network: TracedNetwork, model: nn.Module, constraints: Constraints) -> TracedNetwork:
    """Limit the allowed counts of kept filters of each layer; keeping all is always allowed.

    Args:
        network: A trace; its allowed counts are replaced.
        model: The traced network.
        constraints: The constraints; ``protect`` and ``sizes`` are ignored, as they are for a trace.

    Raises:
        ValueError: If a pattern matches no layer.
    """
    _check_patterns((*constraints.round_to, *constraints.max_sparsity), network)
    layers = []
    for number, (layer, multiples) in enumerate(_rounded(network, model, constraints)):
        allowed = np.arange(1, layer.filters + 1) if multiples is None else multiples
        max_sparsity = _last_match(constraints.max_sparsity, layer, 1.0)
        min_count = np.ceil(layer.filters * (1 - max_sparsity) - 1e-9)  # in floats, 10 * (1 - 0.7) is above 3
        allowed = np.intersect1d(
            allowed[allowed >= max(min_count, layer.exact_from)], network.whole_counts(number)
        )
        layers.append(dataclasses.replace(layer, allowed=allowed))
    return dataclasses.replace(network, layers=tuple(layers))


def without_rounding(network: TracedNetwork, model: nn.Module, constraints: Constraints) -> list[Layer]:
    """Return the layers that a multiple is given for, and whose counts of filters have none.

    Args:
        network: A trace.
        model: The traced network.
        constraints: The constraints.
    """
    return [layer for layer, multiples in _rounded(network, model, constraints) if multiples is None]


def _rounded(
    network: TracedNetwork, model: nn.Module, constraints: Constraints
) -> Iterator[tuple[Layer, Ints | None]]:
    """Yield each layer with the counts that rounding leaves; None if it has no such count."""
    state = dict([*model.named_parameters(), *model.named_buffers()])
    layers_on_axis = Counter(
        (s.parameter, s.axis) for layer in network.layers for s in _producer_slices(layer)
    )
    for layer in network.layers:
        axes = [
            _Axis(state[s.parameter].shape[s.axis], s.index.shape[1], layers_on_axis[s.parameter, s.axis] > 1)
            for s in _producer_slices(layer)
        ]
        yield layer, _multiples(layer.filters, _last_match(constraints.round_to, layer, 1), axes)


def _multiples(filters: int, step: int, axes: Sequence[_Axis]) -> Ints | None:
    """Return the kept counts at which every producer has a multiple of ``step`` channels, or all of them.

    If layers share a producer, each one's counts assume that the others are dense. Then each removes a
    multiple of ``step``, and so do all together. A layer without such a count, such as a narrow one, has
    None: it is not limited.
    """
    kept = np.arange(1, filters + 1)
    fits = np.ones(filters, np.bool_)
    for axis in axes:
        if axis.shared and axis.channels % step:
            return None  # would need a joint choice of several layers, but each is decided about alone
        fits &= (axis.channels - axis.each * (filters - kept)) % step == 0
    if not fits.any():
        return None
    fits[-1] = True
    return kept[fits]


def _producer_slices(layer: Layer) -> list[Slice]:
    return [slice_ for slice_ in layer.slices if slice_.role == "producer"]


def _pin(layer: Layer, patterns: Sequence[str]) -> Pin | None:
    """Pin all filters of a layer if a pattern matches one of its producers."""
    for pattern in patterns:
        for producer in layer.producers:
            if fnmatchcase(producer, pattern):
                slice_ = layer.slices[0]  # every slice contains all filters
                cause = Cause(f"protected by --protect {pattern}", PROTECTED, producer)
                return Pin(slice_.parameter, slice_.axis, slice_.index, cause)
    return None


def _last_match(by_pattern: Mapping[str, T], layer: Layer, default: T) -> T:
    """Return the value of the last pattern that matches one of the layer's producers, or the default."""
    last = default
    for pattern, value in by_pattern.items():
        if any(fnmatchcase(producer, pattern) for producer in layer.producers):
            last = value
    return last


def _check_patterns(patterns: Iterable[str], network: TracedNetwork) -> None:
    """Refuse a pattern that matches no producer, prunable or not."""
    prunable = [producer for layer in network.layers for producer in layer.producers]
    names = list(dict.fromkeys([*prunable, *(layer.name for layer in network.pinned)]))
    for pattern in patterns:
        if names and not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"no layer is named like {pattern!r}{did_you_mean(pattern, names)}; "
                f"names are {', '.join(names[:3])} and so on, `secateur inspect` lists them"
            )
