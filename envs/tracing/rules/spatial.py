"""Operations on the pixels of each channel: pooling, resizing, padding of images."""

from __future__ import annotations

import re

import numpy as np

from ..labels import LabelVector
from ..propagation import Propagation
from .registry import Call, rule


@rule("max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool2d")
@rule(
    "max_unpool2d",
    "max_unpool3d",
    "fractional_max_pool2d",
    "fractional_max_pool3d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
)
@rule("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d")
@rule("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "grid_sampler_2d")
@rule("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d")
@rule("upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d", "_upsample_nearest_exact2d")
@rule("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "reflection_pad1d", "reflection_pad2d")
@rule("replication_pad1d", "replication_pad2d", "replication_pad3d", "reflection_pad3d")
def by_channel(propagation: Propagation, call: Call) -> None:
    """Keep the labels of batch and channels; a labelled axis that is treated as pixels is pinned."""
    pixels = re.search(r"(\d)_?d", call.name)
    assert pixels is not None, call.name
    image = call.args[0]
    leading = image.ndim - int(pixels[1])
    source = propagation.value(image)
    axes = source.axes
    samples = call["random_samples"] if call.name.startswith("fractional") else None
    others = [x for x in call.operands if x.ndim != image.ndim and x is not samples]
    propagation.pin_all(others, "channels are treated as pixels")
    for axis in axes[leading:]:
        propagation.pin(axis, "channels are treated as pixels")
    if call.name.startswith("max_unpool"):
        indices = propagation.value(call["indices"]).axes
        for axis, other in zip(axes[:leading], indices[:leading], strict=True):
            propagation.tie(axis, other, "pooling indices of fixed size")
    elif samples is not None:
        for axis, other in zip(axes[:leading], propagation.value(samples).axes, strict=False):
            propagation.tie(axis, other, "pooling samples of fixed size")
    elif call.name.startswith("grid_sampler"):
        propagation.pin_all(call["grid"], "channels are treated as coordinates")
    for number, out in enumerate(call.outputs):  # the second says where a maximum is
        vanishes = source.vanishes and number == 0
        propagation.set(out, [*axes[:leading], *[None] * (out.ndim - leading)], vanishes=vanishes)


@rule("pixel_shuffle")
def pixel_shuffle(propagation: Propagation, call: Call) -> None:
    """Couple the r*r channels that make one output channel."""
    source = propagation.value(call.args[0])
    *batch, channels = source.axes[:-2]
    merged = _merged(propagation, channels, call.result.shape[-3])
    propagation.set(call.result, [*batch, merged, None, None], vanishes=source.vanishes)


@rule("pixel_unshuffle")
def pixel_unshuffle(propagation: Propagation, call: Call) -> None:
    """Repeat each channel's label for the r*r channels made of it."""
    source = propagation.value(call.args[0])
    *batch, channels = source.axes[:-2]
    repeated = _repeated(channels, call.result.shape[-3])
    propagation.set(call.result, [*batch, repeated, None, None], vanishes=source.vanishes)


@rule("torchvision::roi_align", "torchvision::roi_pool")
def regions(propagation: Propagation, call: Call) -> None:
    """Keep the labels of the channels; regions are numbers for all of them."""
    source = propagation.value(call.args[0])
    propagation.pin_all(call.args[1], "channels are treated as regions")
    for axis in (source.axes[0], *source.axes[2:]):
        propagation.pin(axis, "channels are treated as pixels")
    for number, out in enumerate(call.outputs):  # the second says where a maximum is
        axes = [None, source.axes[1], None, None]
        propagation.set(out, axes, vanishes=source.vanishes and number == 0)


@rule("col2im")
def fold(propagation: Propagation, call: Call) -> None:
    """Couple the pixels of the patches of each channel."""
    source = propagation.value(call.args[0])
    *batch, channels, patches = source.axes
    propagation.pin(patches, "channels are treated as pixels")
    merged = _merged(propagation, channels, call.result.shape[-3])
    propagation.set(call.result, [*batch, merged, None, None], vanishes=source.vanishes)


@rule("im2col")
def unfold(propagation: Propagation, call: Call) -> None:
    """Repeat each channel's label for the pixels of its patch."""
    source = propagation.value(call.args[0])
    *batch, channels = source.axes[:-2]
    repeated = _repeated(channels, call.result.shape[-2])
    propagation.set(call.result, [*batch, repeated, None], vanishes=source.vanishes)


def _merged(propagation: Propagation, labels: LabelVector | None, count: int) -> LabelVector | None:
    """Couple the labels that make each of ``count`` channels, and return one of each."""
    if labels is None:
        return None
    rows = labels.reshape(count, -1)
    propagation.couple(rows, rows[:, :1])
    return rows[:, 0]


def _repeated(labels: LabelVector | None, count: int) -> LabelVector | None:
    """Repeat each label, so that there are ``count``."""
    return None if labels is None else np.repeat(labels, count // len(labels))
