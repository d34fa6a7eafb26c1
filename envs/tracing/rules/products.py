"""Sums of products: convolutions and matrix products, where filters are made and channels are consumed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..labels import LabelVector, Value
from .registry import FIXED, Call, rule

if TYPE_CHECKING:
    from ..tracer import Tracer


@rule("convolution", "_convolution", "convolution_overrideable")
def convolution(tracer: Tracer, call: Call) -> None:
    """Tie input channels to the weight's input axis; the output takes the labels of the weight's filters."""
    x, weight = tracer.value(call["input"]), tracer.value(call["weight"])
    transposed: bool = call["transposed"]
    for axis in (x.axes[0], *x.axes[2:]):
        tracer.pin(axis, "a convolution slides over this axis")
    for axis in weight.axes[2:]:
        tracer.pin(axis, "the size of a convolution's kernel")
    produced = _tie_channels(tracer, x.axes[1], weight, call["groups"], transposed)
    if call["bias"] is not None:
        tracer.tie_axes(produced, tracer.value(call["bias"]).axes[0], "a bias of fixed size")
    positions = math.prod((call["input"] if transposed else call.result).shape[2:])
    tracer.use_weights(
        x.shape[0] * positions * math.prod(weight.shape[2:]),
        _sizes(weight.axes[:2], weight.shape[:2]),
        produced if tracer.made_of_parameters(produced) else None,
    )
    tracer.set(call.result, [None, produced, *[None] * (call.result.ndim - 2)])


def _tie_channels(
    tracer: Tracer, channels: LabelVector | None, weight: Value, groups: int, transposed: bool
) -> LabelVector | None:
    """Tie input channels to a weight of (out, in / groups, ...), transposed (in, out / groups, ...).

    Returns:
        The labels of the output channels.
    """
    first, second = weight.axes[:2]
    if groups == 1:
        consumed, produced = (first, second) if transposed else (second, first)
        tracer.tie_axes(channels, consumed, FIXED)
        if not weight.weight:
            tracer.pin(channels, "a kernel that is no parameter sums over channels")
        return produced
    if channels is None or first is None:
        for axis in (channels, first, second):
            tracer.pin(axis, FIXED)
        return None if transposed else first
    rows, filters = channels.reshape(groups, -1), first.reshape(groups, -1)
    if groups >= rows.shape[1]:  # whole groups go, as in a depthwise convolution
        tracer.couple(rows, rows[:, :1])
        tracer.labels.tie(filters, rows[:, :1])
        tracer.pin(second, "the size of a convolution's groups")
        tracer.measure(rows[:, 0])
        return np.repeat(filters[:, 0], weight.shape[1]) if transposed else first
    # Fewer and larger groups: the same index goes in all of them.
    tracer.couple(rows, rows[:1])
    tracer.labels.tie(filters, filters[:1])
    tracer.tie_axes(rows[0], filters[0] if transposed else second, FIXED)
    if transposed:
        return None if second is None else np.tile(second, groups)
    return first


@rule("mm", "bmm", "matmul")
def matrix_product(tracer: Tracer, call: Call) -> None:
    """Tie the contracted axes; rows and columns pass through."""
    _product(tracer, call.args[0], call.args[1], call.result)


@rule("addmm", "baddbmm")
def matrix_product_with_bias(tracer: Tracer, call: Call) -> None:
    """Do as for a matrix product, and tie the bias to the result."""
    _product(tracer, call.args[1], call.args[2], call.result)
    axes, bias = tracer.value(call.result).axes, tracer.value(call.args[0])
    for offset in range(1, len(bias.axes) + 1):
        if bias.shape[-offset] == call.result.shape[-offset] > 1:
            tracer.tie_axes(axes[-offset], bias.axes[-offset], "a bias of fixed size")
        else:
            tracer.pin(bias.axes[-offset], "one bias for many channels")


def _product(tracer: Tracer, one: Tensor, other: Tensor, result: Tensor) -> None:
    a, b = tracer.value(one), tracer.value(other)
    tracer.tie_axes(a.axes[-1], b.axes[-2], "a matrix product over channels of fixed size")
    if a.weight == b.weight:
        # Removed channels are zero on neither side, or the product is of parameters alone.
        tracer.pin(a.axes[-1], "a product of two activations sums over channels")
    batch: list[LabelVector | None] = []
    if one.ndim == 3:
        tracer.tie_axes(a.axes[0], b.axes[0], "a batched product over an axis of fixed size")
        batch = [a.axes[0]]
    rows, columns = a.axes[-2], b.axes[-1]
    axes = [*batch, rows, columns]
    produced = columns if b.weight else rows if a.weight else None
    tracer.use_weights(1.0, _sizes((*axes, a.axes[-1]), (*result.shape, one.shape[-1])), produced)
    tracer.set(result, axes)


def _sizes(axes: Sequence[LabelVector | None], shape: Sequence[int]) -> list[LabelVector | int]:
    return [size if axis is None else axis for axis, size in zip(axes, shape, strict=True)]


@rule("dot", "mv", "addmv")
def vector_product(tracer: Tracer, call: Call) -> None:
    """Pin products with vectors: they occur too seldom to earn a rule of their own."""
    tracer.pin_all(call.operands, "a product with a vector")


@rule("embedding")
def embedding(tracer: Tracer, call: Call) -> None:
    """Give the looked-up rows the labels of the table's columns."""
    rows, columns = tracer.value(call.args[0]).axes
    tracer.pin(rows, "the rows of an embedding")
    tracer.set(call.result, [*[None] * (call.result.ndim - 1), columns])
