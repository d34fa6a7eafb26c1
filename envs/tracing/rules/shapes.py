"""Operations that see the same elements in another shape or order."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..labels import LabelVector
from ..propagation import Propagation
from .registry import Call, rule


@rule("view", "reshape", "_unsafe_view", "_reshape_alias", "flatten", "unflatten", "squeeze", "unsqueeze")
@rule("view_copy", "_reshape_copy", "squeeze_copy", "unsqueeze_copy")
def reshape(propagation: Propagation, call: Call) -> None:
    """Factor both shapes into blocks of equal product and carry labels over block by block."""
    source, out = propagation.value(call.args[0]), call.result
    axes: list[LabelVector | None] = [None] * out.ndim
    for old, new in blocks(source.shape, tuple(out.shape)):
        labels = _merged(propagation, [source.axes[i] for i in old], [source.shape[i] for i in old])
        if labels is None:
            continue
        if not new:
            propagation.pin(labels, "a single channel is squeezed away")
            continue
        place, vector = _split(propagation, labels, [out.shape[i] for i in new])
        axes[new[place]] = vector
    if "squeeze" not in call.name:
        propagation.measure(
            *(size if axis is None else axis for axis, size in zip(axes, out.shape, strict=True))
        )
    propagation.set(out, axes, weight=source.weight)


def blocks(old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """Pair up the shortest runs of axes with equal products, from the left."""
    i = j = 0
    while i < len(old) or j < len(new):
        ours: list[int] = []
        theirs: list[int] = []
        product_old = product_new = 1
        while not (product_old == product_new and ours and theirs):
            if i < len(old) and (not ours or product_old < product_new):
                ours.append(i)
                product_old *= old[i]
                i += 1
            elif j < len(new) and (not theirs or product_new < product_old):
                theirs.append(j)
                product_new *= new[j]
                j += 1
            else:
                break
        yield ours, theirs


def _merged(propagation: Propagation, axes: list[LabelVector | None], sizes: list[int]) -> LabelVector | None:
    """Spread the labels of a run of axes over their product."""
    labelled = [(place, axis) for place, axis in enumerate(axes) if axis is not None]
    if not labelled:
        return None
    for _, axis in labelled[:-1]:
        propagation.pin(axis, "two axes with channels are merged")
    place, axis = labelled[-1]
    return np.tile(np.repeat(axis, math.prod(sizes[place + 1 :])), math.prod(sizes[:place]))


def _split(propagation: Propagation, labels: LabelVector, sizes: list[int]) -> tuple[int, LabelVector]:
    """Find which axis of a split carries the labels, tying where more than one would have to."""
    grid = labels.reshape(sizes)
    varying = [
        axis for axis in range(len(sizes)) if sizes[axis] > 1 and (grid != np.take(grid, [0], axis)).any()
    ]
    # A grid that varies along one axis alone has its labels there; else rows are tied: a channel shuffle.
    place = max(varying or range(len(sizes)), key=lambda axis: (sizes[axis], axis))
    others = tuple(axis for axis in range(len(sizes)) if axis != place)
    corner = grid[tuple(slice(None) if axis == place else slice(0, 1) for axis in range(len(sizes)))]
    if len(varying) > 1:
        propagation.couple(grid, np.broadcast_to(corner, grid.shape))
    return place, corner.transpose(place, *others).reshape(-1)


@rule("permute", "permute_copy", "transpose", "transpose_copy", "t", "t_copy", "numpy_T")
def permute(propagation: Propagation, call: Call) -> None:
    """Permute the label vectors with the axes."""
    source = propagation.value(call.args[0])
    rank = len(source.axes)
    order = list(range(rank))
    if call.name.startswith("permute"):
        order = [dim % rank for dim in call["dims"]]
    elif call.name.startswith("transpose"):
        one, other = call["dim0"] % rank, call["dim1"] % rank
        order[one], order[other] = order[other], order[one]
    else:
        order.reverse()
    propagation.set(call.result, [source.axes[dim] for dim in order], weight=source.weight)


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(propagation: Propagation, call: Call) -> None:
    """Let the same index go in all groups, so that the groups stay equal."""
    axes = list(propagation.value(call.args[0]).axes)
    if axes[1] is not None:
        rows = axes[1].reshape(call["groups"], -1)
        propagation.couple(rows, rows[:1])
        axes[1] = np.repeat(rows[0], call["groups"])
    propagation.set(call.result, axes)


@rule("expand", "expand_copy", "broadcast_to")
def expand(propagation: Propagation, call: Call) -> None:
    """Keep labels where the size stays; a single channel that is spread over many is pinned."""
    source, out = propagation.value(call.args[0]), call.result
    new = out.ndim - len(source.axes)
    axes: list[LabelVector | None] = [None] * out.ndim
    for dim, axis in enumerate(source.axes):
        if source.shape[dim] == out.shape[new + dim]:
            axes[new + dim] = axis
        else:
            propagation.pin(axis, "one channel is spread over many")
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
    """Turn label vectors round with their axes."""
    source = propagation.value(call.args[0])
    turned = {dim % len(source.axes) for dim in call["dims"]}
    axes = [np.flip(a) if a is not None and dim in turned else a for dim, a in enumerate(source.axes)]
    propagation.set(call.result, axes, weight=source.weight)


@rule("roll")
def roll(propagation: Propagation, call: Call) -> None:
    """Leave fixed axes to roll; channels that roll by a fixed number are pinned."""
    axes = propagation.value(call.args[0]).axes
    for dim in call["dims"] or range(len(axes)):
        propagation.pin(axes[dim], "channels roll by a fixed number")
    propagation.set(call.result, axes)
