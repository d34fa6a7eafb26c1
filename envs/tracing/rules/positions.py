"""Operations that read or write at positions which are tensors themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..labels import LabelVector, Value
from ..propagation import Propagation
from .elementwise import pointwise
from .registry import FIXED, SELECTED, Call, rule


@rule("index", "_unsafe_index")
def index(propagation: Propagation, call: Call) -> None:
    """Pin the indexed axes; the others keep their labels."""
    source = propagation.value(call.args[0])
    propagation.set(call.result, _indexed(propagation, source, call["indices"]), like=source)


@rule("index_put", "_unsafe_index_put")
def index_put(propagation: Propagation, call: Call) -> None:
    """Pin the indexed axes, and tie the others to those of what is written."""
    (mask, *others), values = call["indices"], call["values"]
    if mask is not None and not others and mask.shape == call.args[0].shape and values.numel() == 1:
        pointwise(propagation, call, vanishes=False)  # a number where a mask of the same shape says so
        return
    target, written = propagation.value(call.args[0]), propagation.value(call["values"])
    axes = _indexed(propagation, target, call["indices"])
    for offset in range(1, len(written.axes) + 1):
        if written.shape[-offset] > 1:
            propagation.tie(axes[-offset], written.axes[-offset], FIXED)
    reached = all(
        axis is None or propagation.labels.resolve(axis) is None or written.labels_axis(dim - len(axes))
        for dim, axis in enumerate(axes)
    )
    vanishes = reached and target.vanishes and written.vanishes
    propagation.set(call.result, target.axes, vanishes=vanishes)


def _indexed(
    propagation: Propagation, source: Value, indices: Sequence[Tensor | None]
) -> list[LabelVector | None]:
    """Return the axes of ``source[indices]``, and pin those that are indexed.

    New axes stand where the first index is, but in front if the indices are not side by side. A mask stands
    for as many axes as it has itself.
    """
    given = [position for position, positions in enumerate(indices) if positions is not None]
    kept: list[LabelVector | None] = []
    dim = first = rank = 0
    for number, positions in enumerate(indices):
        if positions is None:
            kept.append(source.axes[dim])
            dim += 1
            continue
        is_mask = positions.dtype in (torch.bool, torch.uint8)
        propagation.pin_all(positions, SELECTED)
        for axis in source.axes[dim : dim + (positions.ndim if is_mask else 1)]:
            propagation.pin(axis, SELECTED)
        dim += positions.ndim if is_mask else 1
        rank = max(rank, 1 if is_mask else positions.ndim)
        first = len(kept) if number == given[0] else first
    if given[-1] - given[0] + 1 != len(given):
        first = 0
    kept += source.axes[dim:]
    return [*kept[:first], *[None] * rank, *kept[first:]]


@rule("index_select")
def index_select(propagation: Propagation, call: Call) -> None:
    """Pin the indexed axis; the others keep their labels."""
    source = propagation.value(call.args[0])
    axes = list(source.axes)
    if axes:
        propagation.pin(axes[call["dim"]], SELECTED)
        axes[call["dim"]] = None
    propagation.set(call.result, axes, like=source)


@rule("gather", "scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy", "index_fill")
def along_an_axis(propagation: Propagation, call: Call) -> None:
    """Pin the axis along which the positions count; tie the others to those of positions and values."""
    source = propagation.value(call.args[0])
    axes = list(source.axes)
    others = [operand for operand in call.operands[1:] if operand.ndim == len(axes)]
    values = [call[name] for name in ("src", "source", "value") if call.has(name)]
    for dim in range(len(axes)):
        for operand in others:
            labels = propagation.value(operand).axes[dim]
            if dim == call["dim"] % len(axes) or operand.shape[dim] != source.shape[dim]:
                propagation.pin(axes[dim], SELECTED)
                propagation.pin(labels, SELECTED)
            elif operand.shape[dim] > 1:
                propagation.tie(axes[dim], labels, FIXED)
                axes[dim] = labels if axes[dim] is None else axes[dim]
    if axes:
        propagation.pin(axes[call["dim"]], SELECTED)
        axes[call["dim"]] = None if call.name == "gather" else axes[call["dim"]]
    zero = all(propagation.value(x).vanishes if isinstance(x, Tensor) else x == 0 for x in values)
    sized = [
        axis if axis is None or len(axis) == n else None
        for axis, n in zip(axes, call.result.shape, strict=True)
    ]
    propagation.set(call.result, sized, vanishes=source.vanishes and zero)
