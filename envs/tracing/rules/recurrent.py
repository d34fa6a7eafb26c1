"""Recurrent layers: oneDNN runs an LSTM as one operation; all others are made of simpler ones.

Shapes: T steps, B examples, H hidden units.
"""

from __future__ import annotations

from ..propagation import Propagation
from .registry import Call, rule

RECURRENT = "a recurrent layer of fixed size"


@rule("mkldnn_rnn_layer")
def lstm(propagation: Propagation, call: Call) -> None:
    """Couple the four gates of each hidden unit, and tie its state to what the next step reads.

    A masked unit stays at zero: its candidate is tanh(0), so neither its cell nor its output leaves zero.
    """
    x, inward, recurrent = (propagation.value(call[name]) for name in ("input", "weight0", "weight1"))
    states = [propagation.value(call[name]) for name in ("hx_", "cx_")]
    biases = [propagation.value(call[name]) for name in ("weight2", "weight3") if call["has_biases"]]
    propagation.tie(x.axes[-1], inward.axes[1], RECURRENT)
    gates = inward.axes[0]
    for value in (recurrent, *biases):
        propagation.tie(gates, value.axes[0], RECURRENT)
    units = None
    if gates is not None:
        rows = gates.reshape(4, -1)
        propagation.couple(rows, rows[:1])
        units = rows[0]
    for labels in (recurrent.axes[1], *(state.axes[-1] for state in states)):
        propagation.tie(units, labels, RECURRENT)
    steps = float(x.shape[0] * x.shape[1])
    produced = gates if propagation.from_parameter(gates) else None
    for value, channels in ((inward, x.axes[-1]), (recurrent, units)):
        sizes = zip((gates, channels), value.shape, strict=True)
        propagation.use_weights(steps, [n if axis is None else axis for axis, n in sizes], produced)
    vanishes = all(value.vanishes for value in (inward, recurrent, *biases, *states))
    for out in call.outputs[:3]:  # (T, B, H), (.., B, H), (.., B, H); the last is for training
        propagation.set(out, [*[None] * (out.ndim - 1), units], vanishes=vanishes)


@rule("_pack_padded_sequence")
def pack(propagation: Propagation, call: Call) -> None:
    """Merge time and batch, and keep the labels of the features."""
    source = propagation.value(call.args[0])
    for axis in source.axes[:2]:
        propagation.pin(axis, "channels are treated as time")
    propagation.set(call.outputs[0], [None, *source.axes[2:]], vanishes=source.vanishes)


@rule("_pad_packed_sequence")
def unpack(propagation: Propagation, call: Call) -> None:
    """Split time and batch, and keep the labels of the features."""
    source = propagation.value(call.args[0])
    propagation.pin(source.axes[0], "channels are treated as time")
    vanishes = source.vanishes and call["padding_value"] == 0
    propagation.set(call.outputs[0], [None, None, *source.axes[1:]], vanishes=vanishes)
