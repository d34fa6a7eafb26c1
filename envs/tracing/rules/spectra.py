"""Fourier transforms over pixels, and complex numbers seen as pairs of real ones."""

from __future__ import annotations

from ..propagation import Propagation
from .registry import Call, rule


@rule("_fft_r2c", "_fft_c2r", "_fft_c2c")
def fourier_transform(propagation: Propagation, call: Call) -> None:
    """Pin the transformed axes and keep the labels of the others."""
    source = propagation.value(call.args[0])
    axes = list(source.axes)
    for dim in call["dim"]:
        propagation.pin(axes[dim], "a Fourier transform over channels")
        axes[dim] = None
    propagation.set(call.result, axes, vanishes=source.vanishes)


@rule("view_as_real", "view_as_real_copy")
def pair(propagation: Propagation, call: Call) -> None:
    """Add an axis of real and imaginary part."""
    source = propagation.value(call.args[0])
    propagation.set(call.result, [*source.axes, None], like=source)


@rule("view_as_complex", "view_as_complex_copy")
def unpair(propagation: Propagation, call: Call) -> None:
    """Drop the axis of real and imaginary part."""
    source = propagation.value(call.args[0])
    propagation.pin(source.axes[-1], "two channels become one complex number")
    propagation.set(call.result, source.axes[:-1], like=source)
