"""Operations that change the shape or the order of elements."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from ..labels import LabelVector, Value
from ..propagation import Propagation
from .registry import BROADCAST, Call, rule

MERGED = "two axes with channels are merged"


@rule("view", "reshape", "_unsafe_view", "_reshape_alias", "flatten", "unflatten", "squeeze", "unsqueeze")
@rule("view_copy", "_reshape_copy", "squeeze_copy", "unsqueeze_copy")
def reshape(propagation: Propagation, call: Call) -> None:
    """Split both shapes into blocks of axes with equal products, and transfer labels block by block."""
    source, out = propagation.value(call.args[0]), call.result
    axes: list[LabelVector | None] = [None] * out.ndim
    for old, new in blocks(source.shape, tuple(out.shape)):
        labels = _merged(propagation, [source.axes[i] for i in old], [source.shape[i] for i in old])
        if labels is None:
            continue
        if not new:
            propagation.pin(labels, "the axis of a single channel is removed")
            continue
        for axis, vector in _split(propagation, labels, new, tuple(out.shape)).items():
            axes[axis] = vector
    if "squeeze" not in call.name:
        propagation.measure_shape(axes, out.shape)
    propagation.set(out, axes, like=source)


def blocks(old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """Pair up the shortest runs of axes with equal products, from the left."""
    i = j = 0
    while i < len(old) or j < len(new):
        old_axes: list[int] = []
        new_axes: list[int] = []
        product_old = product_new = 1
        while not (product_old == product_new and old_axes and new_axes):
            if i < len(old) and (not old_axes or product_old < product_new):
                old_axes.append(i)
                product_old *= old[i]
                i += 1
            elif j < len(new) and (not new_axes or product_new < product_old):
                new_axes.append(j)
                product_new *= new[j]
                j += 1
            else:
                break
        yield old_axes, new_axes


def _merged(propagation: Propagation, axes: list[LabelVector | None], sizes: list[int]) -> LabelVector | None:
    """Expand the labels of a run of axes to the product of their sizes."""
    labelled = [(position, axis) for position, axis in enumerate(axes) if axis is not None]
    if len(labelled) > 1:  # a constant's pixels must not stand beside channels that it has already met
        free = [propagation.labels.are_free(axis) for _, axis in labelled]
        for (_, axis), is_free in zip(labelled, free, strict=True):
            if is_free:
                propagation.pin(axis, MERGED)
        if all(free):
            return propagation.constant(math.prod(sizes))
        labelled = [item for item, is_free in zip(labelled, free, strict=True) if not is_free]
    if not labelled:
        return None
    for _, axis in labelled[:-1]:
        propagation.pin(axis, MERGED)
    position, axis = labelled[-1]
    return np.tile(np.repeat(axis, math.prod(sizes[position + 1 :])), math.prod(sizes[:position]))


def _split(
    propagation: Propagation, labels: LabelVector, axes: list[int], shape: tuple[int, ...]
) -> dict[int, LabelVector | None]:
    """Find which of the new axes carries the labels; if several would have to, tie them.

    Args:
        propagation: Gets the ties.
        labels: Labels of all elements along the new axes.
        axes: The new axes that take the place of the old one.
        shape: The new shape.

    Returns:
        The labels of the axes that have some.
    """
    if propagation.labels.are_free(labels) and sum(shape[axis] > 1 for axis in axes) > 1:
        propagation.pin(labels, "the axis of a constant is split")
        return {axis: propagation.constant(shape[axis]) for axis in axes}
    grid = labels.reshape([size if axis in axes else 1 for axis, size in enumerate(shape)])
    varying = [axis for axis in axes if shape[axis] > 1 and (grid != grid.take([0], axis)).any()]
    # If the grid varies along one axis only, its labels lie there; else rows are tied, as for channel
    # shuffle.
    carrier = max(varying or axes, key=lambda axis: (shape[axis], axis))
    default = f"axis {carrier}" if len(varying) > 1 else None
    unit = propagation.unit(default, detail=f" to {len(shape)} axes")
    # An axis that a cut left a single index counts as any block's.
    may_carry = [axis for axis, size in enumerate(shape) if axis in axes or size == 1]
    carrier = next((axis for axis in may_carry if unit == f"axis {axis}"), carrier)
    first = grid[tuple(slice(None) if axis == carrier else slice(1) for axis in range(len(shape)))]
    if any(axis != carrier for axis in varying):
        propagation.couple(grid, np.broadcast_to(first, grid.shape))
    return {carrier: first.reshape(-1)}


@rule("permute", "permute_copy", "transpose", "transpose_copy", "t", "t_copy", "numpy_T")
def permute(propagation: Propagation, call: Call) -> None:
    """Permute the label vectors with the axes."""
    source = propagation.value(call.args[0])
    rank = len(source.axes)
    order = list(range(rank))
    if call.name.startswith("permute"):
        order = [dim % rank for dim in call["dims"]]
    elif call.name.startswith("transpose"):
        a, b = call["dim0"] % rank, call["dim1"] % rank
        order[a], order[b] = order[b], order[a]
    else:
        order.reverse()
    propagation.set(call.result, [source.axes[dim] for dim in order], like=source)


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(propagation: Propagation, call: Call) -> None:
    """Couple the same index of all groups, so that the groups keep equal sizes."""
    source = propagation.value(call.args[0])
    axes = list(source.axes)
    if axes[1] is not None:
        rows = axes[1].reshape(call["groups"], -1)
        propagation.couple(rows, rows[:1])
        axes[1] = np.repeat(rows[0], call["groups"])
    propagation.set(call.result, axes, like=source)


@rule("expand", "expand_copy", "broadcast_to")
def expand(propagation: Propagation, call: Call) -> None:
    """Keep labels where the size stays; a single channel that is broadcast is pinned."""
    source, out = propagation.value(call.args[0]), call.result
    new = out.ndim - len(source.axes)
    axes = _broadcast(propagation, source, out)
    for dim, labels in enumerate(source.axes):
        if source.shape[dim] == out.shape[new + dim]:
            axes[new + dim] = labels
        else:
            propagation.pin(labels, BROADCAST)
    propagation.measure_shape(axes, out.shape)
    propagation.set(out, axes, like=source)


@rule("repeat")
def repeat(propagation: Propagation, call: Call) -> None:
    """Tile the label vectors."""
    source, times = propagation.value(call.args[0]), call["repeats"]
    new = len(times) - len(source.axes)
    axes = _broadcast(propagation, source, call.result)
    for dim, labels in enumerate(source.axes):
        if labels is not None:
            axes[new + dim] = np.tile(labels, times[new + dim])
    sizes = (1,) * new + source.shape  # where more than one element is repeated, the number counts none
    propagation.measure_shape([a if size == 1 else None for a, size in zip(axes, sizes, strict=True)], times)
    propagation.set(call.result, axes, like=source)


def _broadcast(propagation: Propagation, source: Value, out: Tensor) -> list[LabelVector | None]:
    """Label the axes of a result along which one element of the source is repeated.

    They are left fixed if something vanishes in the source: it would not do so along the new labels.
    """
    if source.vanishes and propagation.has_channels(source):
        return [None] * out.ndim
    sizes = (1,) * (out.ndim - len(source.shape)) + source.shape
    return [propagation.constant(n) if size == 1 else None for size, n in zip(sizes, out.shape, strict=True)]


@rule("flip")
def flip(propagation: Propagation, call: Call) -> None:
    """Flip the label vectors of flipped axes."""
    source = propagation.value(call.args[0])
    flipped = {dim % len(source.axes) for dim in call["dims"]}
    axes = [np.flip(a) if a is not None and dim in flipped else a for dim, a in enumerate(source.axes)]
    propagation.set(call.result, axes, like=source)


@rule("roll")
def roll(propagation: Propagation, call: Call) -> None:
    """Pin the axes that roll: channels would move by a fixed number of positions."""
    source = propagation.value(call.args[0])
    for dim in call["dims"] or range(len(source.axes)):
        propagation.pin(source.axes[dim], "channels roll by a fixed number")
    propagation.set(call.result, source.axes, like=source)


@rule("as_strided")
def as_strided(propagation: Propagation, call: Call) -> None:
    """Keep the labels if every element stays where it is, as in average pooling to one pixel; else pin them.

    In place the old strides are gone, so the order of the elements has to be that of the axes.
    """
    source, out = call.args[0], call.result
    value = propagation.value(source)
    strides = {axis: stride for axis, stride in enumerate(out.stride()) if out.shape[axis] > 1}
    ordered = {axis: math.prod(out.shape[axis + 1 :]) for axis in strides}
    before = (
        ordered if out is source else {axis: source.stride(axis) for axis in strides if axis < source.ndim}
    )
    if (
        value.shape == tuple(out.shape)
        and strides == before
        and out.storage_offset() == source.storage_offset()
    ):
        propagation.set(out, value.axes, like=value)
    else:
        propagation.pin_all(source, "channels are addressed by their place in memory")
