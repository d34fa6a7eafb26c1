"""Operations that change the shape or the order of elements."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..labels import LabelVector
from ..propagation import Propagation
from .registry import BROADCAST, Call, rule


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
        carrier, vector = _split(propagation, labels, new, tuple(out.shape))
        axes[carrier] = vector
    if "squeeze" not in call.name:
        propagation.measure(
            *(size if axis is None else axis for axis, size in zip(axes, out.shape, strict=True))
        )
    propagation.set(out, axes, weight=source.weight)


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
    if not labelled:
        return None
    for _, axis in labelled[:-1]:
        propagation.pin(axis, "two axes with channels are merged")
    position, axis = labelled[-1]
    return np.tile(np.repeat(axis, math.prod(sizes[position + 1 :])), math.prod(sizes[:position]))


def _split(
    propagation: Propagation, labels: LabelVector, axes: list[int], shape: tuple[int, ...]
) -> tuple[int, LabelVector]:
    """Find which of the new axes carries the labels; if several would have to, tie them.

    Args:
        propagation: Gets the ties.
        labels: Labels of all elements along the new axes.
        axes: The new axes that take the place of the old one.
        shape: The new shape.

    Returns:
        The axis and its labels.
    """
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
    return carrier, first.reshape(-1)


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
    propagation.set(call.result, [source.axes[dim] for dim in order], weight=source.weight)


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(propagation: Propagation, call: Call) -> None:
    """Couple the same index of all groups, so that the groups keep equal sizes."""
    axes = list(propagation.value(call.args[0]).axes)
    if axes[1] is not None:
        rows = axes[1].reshape(call["groups"], -1)
        propagation.couple(rows, rows[:1])
        axes[1] = np.repeat(rows[0], call["groups"])
    propagation.set(call.result, axes)


@rule("expand", "expand_copy", "broadcast_to")
def expand(propagation: Propagation, call: Call) -> None:
    """Keep labels where the size stays; a single channel that is broadcast is pinned."""
    source, out = propagation.value(call.args[0]), call.result
    new = out.ndim - len(source.axes)
    axes: list[LabelVector | None] = [None] * out.ndim
    for dim, axis in enumerate(source.axes):
        if source.shape[dim] == out.shape[new + dim]:
            axes[new + dim] = axis
        else:
            propagation.pin(axis, BROADCAST)
    propagation.set(out, axes, weight=source.weight)


@rule("repeat")
def repeat(propagation: Propagation, call: Call) -> None:
    """Tile the label vectors."""
    source, times = propagation.value(call.args[0]), call["repeats"]
    new = len(times) - len(source.axes)
    tiled = [None if a is None else np.tile(a, times[new + dim]) for dim, a in enumerate(source.axes)]
    propagation.set(call.result, [*[None] * new, *tiled])


@rule("flip")
def flip(propagation: Propagation, call: Call) -> None:
    """Flip the label vectors of flipped axes."""
    source = propagation.value(call.args[0])
    flipped = {dim % len(source.axes) for dim in call["dims"]}
    axes = [np.flip(a) if a is not None and dim in flipped else a for dim, a in enumerate(source.axes)]
    propagation.set(call.result, axes, weight=source.weight)


@rule("roll")
def roll(propagation: Propagation, call: Call) -> None:
    """Pin the axes that roll: channels would move by a fixed number of positions."""
    axes = propagation.value(call.args[0]).axes
    for dim in call["dims"] or range(len(axes)):
        propagation.pin(axes[dim], "channels roll by a fixed number")
    propagation.set(call.result, axes)
