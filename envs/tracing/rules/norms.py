"""Normalisation: batch-norm leaves channels apart, group-norm groups, layer-norm nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..labels import LabelVector
from .registry import Call, rule

if TYPE_CHECKING:
    from ..tracer import Tracer


@rule("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "batch_norm")
@rule("_batch_norm_with_update", "_native_batch_norm_legit_functional", "_batch_norm_no_update")
def batch_norm(tracer: Tracer, call: Call) -> None:
    """Tie the channel axis with weight, bias and statistics."""
    value = tracer.value(call.args[0])
    channels = value.axes[1]
    for position, axis in enumerate(value.axes):
        if position != 1:
            tracer.pin(axis, "batch-norm averages over this axis")
    for tensor in call.args[1:]:
        if isinstance(tensor, Tensor) and tensor.ndim == 1:
            other = tracer.value(tensor).axes[0]
            tracer.tie_axes(channels, other, "batch-norm over channels of fixed size")
            channels = other if channels is None else channels
    axes: list[LabelVector | None] = [None] * len(value.shape)
    axes[1] = channels
    normalised, *statistics = call.outputs
    tracer.set(normalised, axes)
    for statistic in statistics:
        if statistic.ndim == 1 and statistic.shape[0] == value.shape[1]:
            tracer.set(statistic, [channels])


@rule("native_group_norm")
def group_norm(tracer: Tracer, call: Call) -> None:
    """Let whole groups go: the statistics of the others do not change."""
    value, groups = tracer.value(call.args[0]), call["group"]
    channels = value.axes[1]
    for tensor in (call["weight"], call["bias"]):
        if tensor is not None:
            other = tracer.value(tensor).axes[0]
            tracer.tie_axes(channels, other, "group-norm over channels of fixed size")
    if channels is not None:
        if groups == 1:
            tracer.pin(channels, "group-norm with one group averages over all channels")
        else:
            rows = channels.reshape(groups, -1)
            tracer.couple(rows, rows[:, :1])
            tracer.measure(rows[:, 0])
    tracer.set(call.outputs[0], [value.axes[0], channels, *value.axes[2:]])


@rule("native_layer_norm", "_fused_rms_norm", "rms_norm", "layer_norm")
def layer_norm(tracer: Tracer, call: Call) -> None:
    """Pin the normalised axes: their statistics would change."""
    value = tracer.value(call.args[0])
    kept = len(value.axes) - len(call["normalized_shape"])
    for axis in value.axes[kept:]:
        tracer.pin(axis, "layer-norm averages over these channels")
    tracer.pin_all(call.args[2:], "layer-norm averages over these channels")
    fixed = [None] * (len(value.axes) - kept)
    tracer.set(call.outputs[0], [*value.axes[:kept], *fixed])


@rule("_weight_norm_interface", "_weight_norm")
def weight_norm(tracer: Tracer, call: Call) -> None:
    """Pin the axis that has a norm of its own: a masked filter would be zero divided by zero."""
    direction, scale = (tracer.value(x) for x in call.args[:2])
    for axis in scale.axes:
        tracer.pin(axis, "weight normalisation")
    dim = call["dim"] % len(direction.axes)
    if len(scale.axes) != len(direction.axes) or call["dim"] < 0:  # one norm for the whole weight
        tracer.pin_all(call.args[0], "weight normalisation")
    tracer.pin(direction.axes[dim], "weight normalisation")
    tracer.set(call.outputs[0], direction.axes, weight=direction.weight)
