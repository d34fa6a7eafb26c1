"""Tensors made from numbers: the same along each axis, or different and so of fixed size."""

from __future__ import annotations

from ..propagation import Propagation
from .registry import Call, rule


@rule("zeros", "ones", "full", "empty", "empty_strided")
@rule("new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided")
def uniform(propagation: Propagation, call: Call) -> None:
    """Set free labels: the tensor has the size of what it will meet, and its module may have given that size.

    What is not initialised counts as uniform too: it has to be written before it is read.
    """
    axes = [propagation.constant(size) for size in call.result.shape]
    propagation.measure_shape(axes, call.result.shape)
    propagation.set(call.result, axes, weight=True, vanishes=_is_zero(call))


@rule("zeros_like", "ones_like", "empty_like", "full_like", "zero")
def uniform_like(propagation: Propagation, call: Call) -> None:
    """Keep the labels of the tensor that gave the size."""
    axes = propagation.value(call.args[0]).axes
    propagation.set(call.result, axes, weight=True, vanishes=_is_zero(call))


def _is_zero(call: Call) -> bool:
    return "zero" in call.name or ("full" in call.name and call["fill_value"] == 0)


@rule("arange", "linspace", "logspace", "eye", "tril_indices", "triu_indices", "scalar_tensor")
@rule("_assert_async")
def fixed(propagation: Propagation, call: Call) -> None:
    """Set no labels: elements differ along the axis, or nothing is computed."""
