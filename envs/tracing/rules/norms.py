"""Normalisation: batch-norm keeps channels independent, group-norm groups, layer-norm none."""

from __future__ import annotations

from torch import Tensor

from ..labels import LabelVector
from ..propagation import Propagation
from .registry import Call, rule

INEXACT_NORMS = ("native_layer_norm", "_fused_rms_norm", "native_group_norm")
"""Operations that average over all channels of an example, the last if it has one group.

``allow_inexact`` ties their channels instead of pinning them. Where torch makes RMS-norm of simpler
operations, as on the CPU, it stays pinned.
"""

_REMEDY = "--allow-inexact layernorm lets them go, with other averages"


@rule("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "batch_norm")
@rule("_batch_norm_with_update", "_native_batch_norm_legit_functional", "_batch_norm_no_update")
def batch_norm(propagation: Propagation, call: Call) -> None:
    """Tie the channel axis with weight, bias and statistics."""
    value = propagation.value(call.args[0])
    channels = value.axes[1]
    for position, axis in enumerate(value.axes):
        if position != 1:
            propagation.pin(axis, "batch-norm averages over this axis")
    for tensor in call.args[1:]:
        if isinstance(tensor, Tensor) and tensor.ndim == 1:
            labels = propagation.value(tensor).axes[0]
            propagation.tie(channels, labels, "batch-norm over channels of fixed size")
            channels = labels if channels is None else channels
    axes: list[LabelVector | None] = [None] * len(value.shape)
    axes[1] = channels
    normalised, *statistics = call.outputs
    alone = not any(kept in call.name for kept in ("no_training", "no_update"))
    if call.has("training") and call.has("running_mean"):
        alone &= call["training"] or call["running_mean"] is None
    propagation.set(normalised, axes, vanishes=_vanishes(propagation, call, alone=alone))
    for statistic in statistics:
        if statistic.ndim == 1 and statistic.shape[0] == value.shape[1]:
            propagation.set(statistic, [channels])


@rule("native_group_norm")
def group_norm(propagation: Propagation, call: Call) -> None:
    """Couple the channels of each group: removing a whole group does not change the others' statistics."""
    value, groups = propagation.value(call.args[0]), call["group"]
    channels = value.axes[1]
    for tensor in (call["weight"], call["bias"]):
        if tensor is not None:
            labels = propagation.value(tensor).axes[0]
            propagation.tie(channels, labels, "group-norm over channels of fixed size")
    if channels is not None:
        if groups == 1 and not propagation.allows("layernorm"):
            propagation.pin(channels, f"group-norm with one group averages over all channels; {_REMEDY}")
        elif groups > 1:
            rows = channels.reshape(groups, -1)
            propagation.couple(rows, rows[:, :1])
            propagation.measure(rows[:, 0])
    vanishes = _vanishes(propagation, call, alone=groups > 1)
    propagation.set(call.outputs[0], [value.axes[0], channels, *value.axes[2:]], vanishes=vanishes)


def _vanishes(propagation: Propagation, call: Call, *, alone: bool) -> bool:
    """Return whether weight and bias are zero where masked, or there are none and zeros stay zero.

    Args:
        propagation: The labels.
        call: A normalisation.
        alone: Whether what is masked is normalised by its own statistics.
    """
    affine = [propagation.value(x).vanishes for x in (call["weight"], call["bias"]) if x is not None]
    return all(affine) if affine else alone and propagation.value(call.args[0]).vanishes


@rule("native_layer_norm", "_fused_rms_norm")
def layer_norm(propagation: Propagation, call: Call) -> None:
    """Pin the normalised axes, whose statistics need all channels, or tie them if that is allowed."""
    value = propagation.value(call.args[0])
    leading = len(value.axes) - len(call["normalized_shape"])
    names = [name for name in ("weight", "bias") if call.has(name) and call[name] is not None]
    affine = [propagation.value(call[name]) for name in names]
    axes = list(value.axes)
    for dim in range(leading, len(axes)):
        for parameter in affine:
            propagation.tie(
                axes[dim], parameter.axes[dim - leading], "layer-norm over channels of fixed size"
            )
        if axes[dim] is not None and not propagation.allows("layernorm"):
            propagation.pin(axes[dim], f"layer-norm averages over these channels; {_REMEDY}")
            axes[dim] = None
    vanishes = bool(affine) and all(parameter.vanishes for parameter in affine)
    propagation.set(call.outputs[0], axes, vanishes=vanishes)


@rule("_weight_norm_interface", "_weight_norm")
def weight_norm(propagation: Propagation, call: Call) -> None:
    """Pin the axis with one norm per index: a masked filter would be zero divided by zero."""
    direction, scale = (propagation.value(x) for x in call.args[:2])
    for axis in scale.axes:
        propagation.pin(axis, "weight normalisation")
    dim = call["dim"] % len(direction.axes)
    if len(scale.axes) != len(direction.axes) or call["dim"] < 0:  # one norm for the whole weight
        propagation.pin_all(call.args[0], "weight normalisation")
    propagation.pin(direction.axes[dim], "weight normalisation")
    propagation.set(call.outputs[0], direction.axes, like=direction)
