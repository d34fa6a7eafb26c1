"""Find a smaller input on which a network is traced alike, so that trial cuts are cheap."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ..modules.calls import Call
from ..tracing import TracedNetwork
from ..tracing.trace import Recording, record

_SMALLEST = 64
"""Longest side that is tried first, pixels; smaller inputs are not worth a trial."""

_MULTIPLE = 32
"""Sides are multiples of this number: networks that halve their input five times run on them."""

_WORTHWHILE = 0.7
"""A side is tried if it is at most this share of the input's."""


def smaller_calls(
    model: nn.Module, calls: tuple[Call, ...], recording: Recording, allow_inexact: Collection[str] = ()
) -> tuple[Call, ...]:
    """Return the calls on the smallest input of which a trace has the same layers, pins and sizes.

    Args:
        model: The network.
        calls: The calls that were traced.
        recording: What they recorded.
        allow_inexact: What was allowed in the trace.

    Returns:
        The calls with cropped inputs; the given ones if none is traced alike.
    """
    for side in _sides(calls):
        cropped = tuple(replace(call, inputs=_cropped(call.inputs, side)) for call in calls)
        try:
            other = record(model, cropped, allow_inexact)
        except ValueError:  # the network does not run on so small an input
            continue
        # The same lines of code have to run: a branch for large images may do anything.
        same_code = other.propagation.records.executed == recording.propagation.records.executed
        if same_code and _alike(recording.solve(), other.solve()):
            return cropped
    return calls


def cropped_to(calls: Sequence[Call], shape: tuple[int, ...]) -> tuple[Call, ...]:
    """Crop the inputs of all calls as far as an example of the first is cropped to ``shape``."""
    return tuple(replace(call, inputs=_cropped(call.inputs, max(shape[1:], default=1))) for call in calls)


def _sides(calls: Sequence[Call]) -> Iterator[int]:
    longest = _longest_side([call.inputs for call in calls])
    side = _SMALLEST
    while side <= _WORTHWHILE * longest:
        yield side
        side *= 2


def _cropped(inputs: tuple[Any, ...], side: int) -> tuple[Any, ...]:
    """Crop all images by the same factor, so that the longest side of the largest is ``side``."""
    longest = _longest_side(inputs)

    def crop(x: Tensor) -> Tensor:
        if not _is_image(x):
            return x
        for axis in range(2, x.ndim):
            wanted = round(x.shape[axis] * side / longest / _MULTIPLE) * _MULTIPLE
            x = x.narrow(axis, 0, min(x.shape[axis], max(_MULTIPLE, wanted)))
        return x

    return tree_map_only(Tensor, crop, inputs)


def _longest_side(inputs: Any) -> int:
    return max((side for x in tree_leaves(inputs) if _is_image(x) for side in x.shape[2:]), default=0)


def _is_image(x: object) -> bool:
    """Return whether a tensor has pixels: (B, C, H, W) of any type, or (B, C, L) of real numbers."""
    return isinstance(x, Tensor) and (x.ndim > 3 or (x.ndim == 3 and x.is_floating_point()))


def _alike(one: TracedNetwork, other: TracedNetwork) -> bool:
    """Return whether two traces have the same layers, pinned filters and size attributes."""
    same_pins = one.pinned == other.pinned and one.unreached == other.unreached
    return same_pins and _structure(one) == _structure(other)


def _structure(network: TracedNetwork) -> list[object]:
    slices = [
        (layer.name, layer.producers, s.parameter, s.axis, s.role, s.index.shape, s.index.tobytes())
        for layer in network.layers
        for s in layer.slices
    ]
    return [*slices, *((size.path, size.fixed.tolist(), size.slope.tolist()) for size in network.sizes)]
