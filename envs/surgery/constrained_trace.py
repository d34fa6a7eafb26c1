"""A trace in which fewer filters may go: what is protected stays, and numbers of filters are limited.

Shapes: L layers, N filters of a layer.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import nn

from ..io.suggestions import did_you_mean
from ..tracing import Cause, Layer, Pin, Slice, TracedNetwork, trace
from ..tracing.network import Ints
from .constraints import PROTECTED, Constraints
from .verification import trace_exactly

T = TypeVar("T")


class _Axis(NamedTuple):
    """Where a layer's filters are produced."""

    channels: int  # all along the axis, also those of other layers and pinned ones
    each: int  # channels that go with one filter
    shared: bool  # with another layer


def trace_constrained(
    model: nn.Module, example: torch.Tensor | tuple[Any, ...], constraints: Constraints
) -> TracedNetwork:
    """Trace a network exactly, pin what is protected, and limit how many filters of each layer may stay.

    Args:
        model: Any CNN.
        example: A batch of at least two inputs; see :func:`secateur.envs.surgery.verification.trace_exactly`.
        constraints: What to respect.

    Raises:
        ValueError: If the model cannot run on ``example``, a pattern matches nothing, or nothing is left to
            prune.
    """
    if not constraints.protect:
        return constrain(trace_exactly(model, example), model, constraints)
    unprotected = trace(model, example)
    _check_patterns(constraints.protect, unprotected)
    pins = [pin for layer in unprotected.layers if (pin := _pin(layer, constraints.protect))]
    network = trace_exactly(model, example, pins=pins)
    if unprotected.layers and not network.layers:
        raise ValueError(f"--protect {' '.join(constraints.protect)} leaves no filter to prune; protect less")
    return constrain(network, model, constraints)


def constrain(network: TracedNetwork, model: nn.Module, constraints: Constraints) -> TracedNetwork:
    """Limit how many filters of each layer may stay; all of them always may.

    Args:
        network: A trace, whose own limits are forgotten.
        model: What was traced.
        constraints: What to respect; protection is the trace's own affair.

    Raises:
        ValueError: If a pattern matches nothing.
    """
    _check_patterns((*constraints.round_to, *constraints.max_sparsity), network)
    state = dict([*model.named_parameters(), *model.named_buffers()])
    sharing = Counter((s.parameter, s.axis) for layer in network.layers for s in _producing(layer))
    layers = []
    for layer in network.layers:
        producing = [
            _Axis(state[s.parameter].shape[s.axis], s.index.shape[1], sharing[s.parameter, s.axis] > 1)
            for s in _producing(layer)
        ]
        allowed = _multiples(layer.filters, _last_match(constraints.round_to, layer, 1), producing)
        share = _last_match(constraints.max_sparsity, layer, 1.0)
        least = np.ceil(layer.filters * (1 - share) - 1e-9)  # 10 * (1 - 0.9) is above 1
        layers.append(dataclasses.replace(layer, allowed=allowed[allowed >= least]))
    return dataclasses.replace(network, layers=tuple(layers))


def _multiples(filters: int, step: int, producing: Sequence[_Axis]) -> Ints:
    """Give the kept counts at which every producer has a multiple of ``step`` channels, or all it ever had.

    Layers that share a producer are counted each with the others full: each then removes a multiple, and so
    do all together. A layer without such a count, a narrow one for instance, is left free.
    """
    kept = np.arange(1, filters + 1)
    fits = np.ones(filters, np.bool_)
    for axis in producing:
        if axis.shared and axis.channels % step:
            return kept  # multiples only together, and each layer is decided about alone
        fits &= (axis.channels - axis.each * (filters - kept)) % step == 0
    if not fits.any():
        return kept
    fits[-1] = True
    return kept[fits]


def _producing(layer: Layer) -> list[Slice]:
    return [where for where in layer.slices if where.role == "producer"]


def _pin(layer: Layer, patterns: Sequence[str]) -> Pin | None:
    """Keep a layer whole if a pattern matches one of its producers."""
    for pattern in patterns:
        for producer in layer.producers:
            if fnmatchcase(producer, pattern):
                where = layer.slices[0]  # every slice holds all filters
                cause = Cause(f"protected by --protect {pattern}", PROTECTED, producer)
                return Pin(where.parameter, where.axis, where.index, cause)
    return None


def _last_match(by_pattern: Mapping[str, T], layer: Layer, default: T) -> T:
    """Give what the last pattern that matches one of the layer's producers says."""
    found = default
    for pattern, value in by_pattern.items():
        if any(fnmatchcase(producer, pattern) for producer in layer.producers):
            found = value
    return found


def _check_patterns(patterns: Iterable[str], network: TracedNetwork) -> None:
    """Refuse a pattern that matches no producer, prunable or not."""
    own = [producer for layer in network.layers for producer in layer.producers]
    names = list(dict.fromkeys([*own, *(layer.name for layer in network.pinned)]))
    for pattern in patterns:
        if names and not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"no layer is named like {pattern!r}{did_you_mean(pattern, names)}; "
                f"names are {', '.join(names[:3])} and so on, `secateur inspect` lists them"
            )
