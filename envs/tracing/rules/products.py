"""Convolutions and matrix products: they produce filters and consume channels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ...modules.units import WHOLE_GROUPS, unit_of_convolution
from ..labels import LabelVector, Value
from ..propagation import Propagation
from .registry import FIXED, Call, rule


@rule("convolution", "_convolution", "convolution_overrideable")
def convolution(propagation: Propagation, call: Call) -> None:
    """Tie input channels to the weight's input axis; the output gets the labels of the weight's filters."""
    x, weight = propagation.value(call["input"]), propagation.value(call["weight"])
    transposed: bool = call.has("transposed") and call["transposed"]
    for axis in (x.axes[0], *x.axes[2:]):
        propagation.pin(axis, "a convolution slides over this axis")
    for axis in weight.axes[2:]:
        propagation.pin(axis, "the size of a convolution's kernel")
    if call["groups"] == 1 and not (x.vanishes or weight.vanishes):
        propagation.pin(x.axes[1], "a kernel that is not a parameter sums over channels")
    produced = _tie_channels(propagation, x.axes[1], weight, call["groups"], transposed)
    if call["bias"] is not None:
        propagation.tie(produced, propagation.value(call["bias"]).axes[0], "a bias of fixed size")
    positions = math.prod((call["input"] if transposed else call.result).shape[2:])
    propagation.use_weights(
        x.shape[0] * positions * math.prod(weight.shape[2:]),
        _sizes(weight.axes[:2], weight.shape[:2]),
        produced if propagation.from_parameter(produced) else None,
    )
    filters = [weight] if call["bias"] is None else [weight, propagation.value(call["bias"])]
    vanishes = all(value.vanishes for value in filters)
    propagation.set(call.result, [None, produced, *[None] * (call.result.ndim - 2)], vanishes=vanishes)


def _tie_channels(
    propagation: Propagation, channels: LabelVector | None, weight: Value, groups: int, transposed: bool
) -> LabelVector | None:
    """Tie input channels to a weight of (out, in / groups, ...), transposed (in, out / groups, ...).

    Returns:
        The labels of the output channels.
    """
    first, second = weight.axes[:2]
    per_group = weight.shape[0] // groups if transposed else weight.shape[1]
    default = None if groups == 1 else unit_of_convolution(groups, per_group)
    unit = propagation.unit(default, weight=weight)
    if unit is None:
        consumed, produced = (first, second) if transposed else (second, first)
        propagation.tie(channels, consumed, FIXED)
        return produced
    if channels is None or first is None:
        for axis in (channels, first, second):
            propagation.pin(axis, FIXED)
        return None if transposed else first
    rows, filters = channels.reshape(groups, -1), first.reshape(groups, -1)
    if unit == WHOLE_GROUPS:
        propagation.couple(rows, rows[:, :1])
        propagation.labels.tie(filters, rows[:, :1])
        propagation.pin(second, "the size of a convolution's groups")
        propagation.measure(rows[:, 0])
        return np.repeat(filters[:, 0], weight.shape[1]) if transposed else first
    propagation.couple(rows, rows[:1])
    propagation.labels.tie(filters, filters[:1])
    propagation.tie(rows[0], filters[0] if transposed else second, FIXED)
    if transposed:
        return None if second is None else np.tile(second, groups)
    return first


@rule("torchvision::deform_conv2d")
def deformable_convolution(propagation: Propagation, call: Call) -> None:
    """Treat as a convolution; offsets and their weights have a number for each place in the kernel."""
    for name in ("offset", "mask"):
        for axis in propagation.value(call[name]).axes:
            propagation.pin(axis, "offsets of a deformable convolution")
    convolution(propagation, call)


@rule("mm", "bmm", "matmul", "mv", "dot", "vdot")
def product(propagation: Propagation, call: Call) -> None:
    """Tie the contracted axes; rows and columns pass through."""
    _product(propagation, call.args[0], call.args[1], call.result)


@rule("addmm", "baddbmm", "addmv")
def product_with_bias(propagation: Propagation, call: Call) -> None:
    """Treat as a matrix product, and tie the bias to the result."""
    _product(propagation, call.args[1], call.args[2], call.result)
    result, bias = propagation.value(call.result), propagation.value(call.args[0])
    for offset in range(1, len(bias.axes) + 1):
        if bias.shape[-offset] == call.result.shape[-offset] > 1:
            propagation.tie(result.axes[-offset], bias.axes[-offset], "a bias of fixed size")
        else:
            propagation.pin(bias.axes[-offset], "one bias for many channels")
    propagation.set(call.result, result.axes, vanishes=result.vanishes and bias.vanishes)


def _product(propagation: Propagation, left: Tensor, right: Tensor, result: Tensor) -> None:
    """Multiply matrices, batches of matrices or vectors; a vector has no rows or columns."""
    a, b = propagation.value(left), propagation.value(right)
    consumed = a.axes[-1]
    propagation.tie(consumed, b.axes[-min(2, right.ndim)], "a matrix product over channels of fixed size")
    if not (a.vanishes or b.vanishes):
        propagation.pin(consumed, "a matrix product sums over channels that are not zero where masked")
    elif not (a.weight or b.weight):
        # It would be exact, but attention divides its scores by the number of channels.
        propagation.pin(consumed, "a product of two activations sums over channels")
    batch = a.axes[0] if left.ndim == 3 else None
    if left.ndim == 3:
        propagation.tie(batch, b.axes[0], "a batched product over an axis of fixed size")
    rows = a.axes[-2] if left.ndim > 1 else None
    columns = b.axes[-1] if right.ndim > 1 else None
    axes = [batch] * (left.ndim == 3) + [rows] * (left.ndim > 1) + [columns] * (right.ndim > 1)
    vanishes = (
        (rows is None or a.vanishes)
        and (columns is None or b.vanishes)
        and (batch is None or a.vanishes or b.vanishes)
    )
    if right.ndim > 1:  # a product with a vector is not worth counting
        made = columns if b.weight else rows if a.weight else None
        produced = made if propagation.from_parameter(made) else None
        propagation.use_weights(1.0, _sizes((*axes, consumed), (*result.shape, left.shape[-1])), produced)
    propagation.set(result, axes, weight=a.weight and b.weight, vanishes=vanishes)


def _sizes(axes: Sequence[LabelVector | None], shape: Sequence[int]) -> list[LabelVector | int]:
    return [size if axis is None else axis for axis, size in zip(axes, shape, strict=True)]


@rule("embedding")
def embedding(propagation: Propagation, call: Call) -> None:
    """Give the looked-up rows the labels of the table's columns."""
    table = propagation.value(call.args[0])
    propagation.pin(table.axes[0], "the rows of an embedding")
    axes = [*[None] * (call.result.ndim - 1), table.axes[1]]
    propagation.set(call.result, axes, vanishes=table.vanishes)
