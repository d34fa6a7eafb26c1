"""Operations that split a tensor along an axis, or join several."""

from __future__ import annotations

import numpy as np

from ..labels import LabelVector
from ..propagation import Propagation
from .registry import FIXED, SELECTED, Call, rule


@rule("slice")
def slice_(propagation: Propagation, call: Call) -> None:
    """Slice the labels."""
    source = propagation.value(call.args[0])
    axes = list(source.axes)
    dim = call["dim"] % len(axes)
    labels = axes[dim]
    if labels is not None and call.result.shape[dim] != len(labels):
        start, end = call["start"], call["end"]
        axes[dim] = labels[start : end : call["step"]]
        for section in (axes[dim], labels[:start], labels[:end]):
            propagation.measure(section)
        propagation.measure_slices(labels, dim)
        if call["step"] != 1:
            propagation.pin(labels, "channels are taken with a stride")
    propagation.set(call.result, axes, like=source)


@rule("select", "select_copy")
def select(propagation: Propagation, call: Call) -> None:
    """Drop an axis and pin it: a channel is selected by its position."""
    source = propagation.value(call.args[0])
    dim = call["dim"] % len(source.axes)
    propagation.pin(source.axes[dim], SELECTED)
    propagation.set(call.result, [a for d, a in enumerate(source.axes) if d != dim], like=source)


@rule("unbind", "unbind_copy")
def unbind(propagation: Propagation, call: Call) -> None:
    """Drop an axis and pin it: its channels are separated."""
    source = propagation.value(call.args[0])
    dim = call["dim"] % len(source.axes)
    propagation.pin(source.axes[dim], SELECTED)
    for piece in call.outputs:
        propagation.set(piece, [a for d, a in enumerate(source.axes) if d != dim], like=source)


@rule("split", "split_with_sizes", "chunk", "tensor_split", "split_copy", "split_with_sizes_copy")
@rule("unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk")
def split(propagation: Propagation, call: Call) -> None:
    """Split the labels; sections of equal size are coupled, so that they stay equal.

    A cut network couples the sections that were equal before the cut, and no others.
    """
    source = propagation.value(call.args[0])
    dim = call["dim"] % len(source.axes)
    labels = source.axes[dim]
    lengths = [piece.shape[dim] for piece in call.outputs]
    section_labels: list[LabelVector | None] = [None] * len(lengths)
    if labels is not None:
        sections = np.split(labels, np.cumsum(lengths)[:-1])
        equal = [str(number) for number, length in enumerate(lengths) if length == lengths[0]]
        unit = propagation.unit(",".join(equal))  # those that were equal before any cut
        for number in unit.split(",") if unit is not None else []:
            if number in equal:
                propagation.couple(sections[int(number)], sections[0])
        propagation.measure(*sections)
        propagation.measure(labels)
        section_labels = list(sections)
    for out, labels_of_out in zip(call.outputs, section_labels, strict=True):
        axes = list(source.axes)
        axes[dim] = labels_of_out
        propagation.set(out, axes, like=source)


@rule("cat", "concat")
def concatenate(propagation: Propagation, call: Call) -> None:
    """Concatenate the label vectors; operands of fixed size get pinned labels."""
    rank = call.result.ndim
    values = [
        propagation.value(x) for x in call.args[0] if x.ndim == rank
    ]  # an empty 1-d tensor may be among them
    dim = call["dim"] % rank
    axes: list[LabelVector | None] = []
    for axis in range(rank):
        vectors = [value.axes[axis] for value in values]
        known = [vector for vector in vectors if vector is not None]
        if not known:
            axes.append(None)
        elif axis == dim:
            sizes = [value.shape[axis] for value in values]
            filled = [
                _pinned(propagation, n, "a concatenated tensor whose size is fixed") if v is None else v
                for v, n in zip(vectors, sizes, strict=True)
            ]
            axes.append(np.concatenate(filled))
        else:
            for vector in vectors:
                propagation.tie(known[0], vector, FIXED)
            axes.append(known[0])
    # What has no labels at all stays whole, so it need not vanish.
    labelled = [value for value in values if any(axis is not None for axis in value.axes)]
    propagation.set(call.result, axes, vanishes=all(value.vanishes for value in labelled))


def _pinned(propagation: Propagation, size: int, reason: str) -> LabelVector:
    labels = propagation.labels.fresh(size, free=True)
    propagation.pin(labels, reason)
    return labels


@rule("stack")
def stack(propagation: Propagation, call: Call) -> None:
    """Tie the operands' axes and add a fixed one."""
    values = [propagation.value(x) for x in call.args[0]]
    axes: list[LabelVector | None] = []
    for vectors in zip(*(value.axes for value in values), strict=True):
        known = next((vector for vector in vectors if vector is not None), None)
        for vector in vectors:
            propagation.tie(known, vector, FIXED)
        axes.append(known)
    axes.insert(call["dim"] % call.result.ndim, None)
    propagation.set(call.result, axes, vanishes=all(value.vanishes for value in values))


@rule("constant_pad_nd", "pad")
def pad(propagation: Propagation, call: Call) -> None:
    """Add pinned labels for the padding on both sides."""
    source, widths = propagation.value(call.args[0]), call["pad"]
    axes = list(source.axes)
    for pair in range(len(widths) // 2):
        dim, before, after = len(axes) - 1 - pair, widths[2 * pair], widths[2 * pair + 1]
        labels = axes[dim]
        if labels is None:
            continue
        if before < 0 or after < 0:
            propagation.pin(labels, "channels are cropped by a fixed number")
            labels = labels[max(0, -before) : len(labels) + min(0, after)]
        edges = [_pinned(propagation, max(0, size), "padded channels stay") for size in (before, after)]
        axes[dim] = np.concatenate([edges[0], labels, edges[1]])
    propagation.set(call.result, axes, vanishes=source.vanishes and not call["value"])


@rule("unfold", "unfold_copy")
def windows(propagation: Propagation, call: Call) -> None:
    """Pin the axis that is cut into windows, and add one for the places inside a window."""
    source = propagation.value(call.args[0])
    axes = list(source.axes)
    propagation.pin(axes[call["dimension"]], "channels are cut into windows")
    axes[call["dimension"]] = None
    propagation.set(call.result, [*axes, None], like=source)
