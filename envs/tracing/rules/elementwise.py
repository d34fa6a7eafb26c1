"""Elementwise operations."""

from __future__ import annotations

from torch import Tensor

from ..labels import LabelVector, Value
from ..propagation import Propagation
from .registry import BROADCAST, FIXED, Call, rule
from .vanishing import gives_zero


@rule("hardswish", "hardtanh", "leaky_relu", "log_sigmoid_forward", "floor_divide", "complex")
@rule("where", "masked_fill", "addcmul", "addcdiv", "lerp", "copy", "fill", "rsub", "_prelu_kernel", "polar")
@rule("_conj", "softplus")
def pointwise(propagation: Propagation, call: Call, *, vanishes: bool | None = None) -> None:
    """Tie the aligned axes of all operands; labels aligned with a fixed axis are pinned.

    Args:
        propagation: The labels.
        call: The operation.
        vanishes: Whether its first result does; None to ask the operation.
    """
    operands = [propagation.value(operand) for operand in call.operands]
    weights = [value for value in operands if propagation.has_channels(value)]
    _refuse_zero_by_zero(propagation, call)
    for number, out in enumerate(call.outputs):
        axes = [_aligned_axis(propagation, call.operands, out, axis) for axis in range(out.ndim)]
        zero = number == 0 and (_vanishes(call, operands, axes) if vanishes is None else vanishes)
        propagation.set(out, axes, weight=_is_weight(weights, out), vanishes=zero)


def _vanishes(call: Call, operands: list[Value], axes: list[LabelVector | None]) -> bool:
    """Return whether, on each labelled axis, what the operands with its labels do makes the result zero."""
    labelled = [axis - len(axes) for axis, labels in enumerate(axes) if labels is not None]
    zeros = {tuple(value.vanishes and value.labels_axis(axis) for value in operands) for axis in labelled}
    return all(gives_zero(call, zero) for zero in zeros)


def _is_weight(operands: list[Value], out: Tensor) -> bool:
    """Return whether all that has channels is made of parameters, and something of it has the full size."""
    return all(value.weight for value in operands) and any(v.shape == out.shape for v in operands)


def _refuse_zero_by_zero(propagation: Propagation, call: Call) -> None:
    """Pin a divisor that vanishes: where it is masked, nothing useful comes out."""
    if call.name.rstrip("_") in ("div", "true_divide", "addcdiv") and isinstance(call.args[-1], Tensor):
        divisor = propagation.value(call.args[-1])
        for axis in divisor.axes if divisor.vanishes else ():
            propagation.pin(axis, "something is divided by what is zero where these channels are masked")


def _aligned_axis(
    propagation: Propagation, operands: list[Tensor], out: Tensor, axis: int
) -> LabelVector | None:
    size, labels, fixed = out.shape[axis], [], False
    for operand in operands:
        operand_axis = axis - out.ndim + operand.ndim
        if operand_axis < 0:
            continue
        vector = propagation.value(operand).axes[operand_axis]
        if operand.shape[operand_axis] == size:
            fixed |= vector is None and size > 1
            labels += [] if vector is None else [vector]
        else:
            propagation.pin(vector, BROADCAST)
    for vector in labels[1:]:
        propagation.labels.tie(labels[0], vector)
    if fixed and labels:
        propagation.pin(labels[0], FIXED)
    # A masked weight keeps the labels of its parameter, not those of the mask.
    labels.sort(key=propagation.from_parameter, reverse=True)
    return propagation.labels.resolve(labels[0]) if labels else None


@rule("clone", "detach", "alias", "_to_copy", "contiguous", "lift_fresh", "lift_fresh_copy", "resolve_conj")
def unchanged(propagation: Propagation, call: Call) -> None:
    """Keep the labels."""
    source = propagation.value(call.args[0])
    propagation.set(call.result, source.axes, like=source)
