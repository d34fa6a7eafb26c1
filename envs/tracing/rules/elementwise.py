"""Elementwise operations."""

from __future__ import annotations

from torch import Tensor

from ..labels import LabelVector
from ..propagation import Propagation
from .registry import BROADCAST, FIXED, Call, rule

_ZERO_TIMES_ANYTHING = {"mul", "div", "neg"}


@rule("hardswish", "hardtanh", "leaky_relu", "log_sigmoid_forward", "floor_divide", "complex")
@rule("where", "masked_fill", "addcmul", "addcdiv", "lerp", "copy", "fill", "rsub", "_prelu_kernel", "polar")
def pointwise(propagation: Propagation, call: Call) -> None:
    """Tie the aligned axes of all operands; labels aligned with a fixed axis are pinned."""
    for out in call.outputs:
        axes = [_aligned_axis(propagation, call.operands, out, axis) for axis in range(out.ndim)]
        propagation.set(out, axes, weight=_stays_a_weight(propagation, call, out))


def _stays_a_weight(propagation: Propagation, call: Call, out: Tensor) -> bool:
    """Return whether masking a label makes the result zero: it is a parameter times a tensor of its size."""
    if call.name.rstrip("_") not in _ZERO_TIMES_ANYTHING or not isinstance(call.args[0], Tensor):
        return False
    factors = call.args[:1] if call.name.startswith("div") else call.operands
    return any(propagation.value(x).weight and x.shape == out.shape for x in factors)


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
    return labels[0] if labels else None


_COPIES = ("clone", "detach", "alias", "_to_copy", "contiguous", "lift_fresh", "lift_fresh_copy")


@rule(*_COPIES)
@rule("zeros_like", "ones_like", "empty_like", "full_like", "_conj", "softplus")
def unchanged(propagation: Propagation, call: Call) -> None:
    """Keep the labels."""
    source = propagation.value(call.args[0])
    for out in call.outputs:
        propagation.set(out, source.axes, weight=source.weight and call.name in _COPIES)


@rule("new_zeros", "new_ones", "new_empty", "new_full", "new_empty_strided", "empty_strided", "tril_indices")
@rule("empty", "zeros", "ones", "full", "arange", "scalar_tensor", "linspace", "eye", "zero", "_assert_async")
def constant(propagation: Propagation, call: Call) -> None:
    """Set no labels: a tensor made from numbers is fixed, and zeroing in place does not change labels."""
