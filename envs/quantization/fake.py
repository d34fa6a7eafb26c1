"""Fake quantisation: layers that compute in float with the values that int8 can hold.

Weights are rounded to 255 values a filter, -127 to 127 times a scale of the filter; what enters a layer to
256 values a tensor, between the ends of a range (Jacob et al. 2018, arXiv 1712.05877, section 3). The
gradient passes through the rounding, and is zero beyond the range.

Batch-norm is not folded here: it multiplies a filter's weights by a number, which multiplies the scale alone,
so that folding it later gives the same whole numbers.

Shapes: N filters, B examples.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized

WEIGHT_QMAX = 127
"""Largest whole number of a weight; the smallest is its negative, so that zero is in the middle."""

ACTIVATION_QMAX = 255
"""Largest whole number of an activation; the smallest is 0."""

_MOMENTUM = 0.01
"""Weight of a step's extremes in the moving range, that of torchao's MovingAverageMinMaxObserver."""

_SMALLEST_SCALE = 1e-12
"""Scale of a filter or a tensor of zeros."""


class ActivationRange(nn.Module):
    """Round a tensor to 256 values between the ends of a range, which follows the tensor in training mode.

    Args:
        rectified: Whether the range begins at zero: the tensor enters a ReLU, and nothing else.
    """

    low: Tensor
    high: Tensor

    def __init__(self, *, rectified: bool = False) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.rectified = rectified
        self.calibration_batches: int | None = None
        """Batches that the range is the mean of so far, while it is calibrated; None else."""

    def forward(self, x: Tensor) -> Tensor:
        """Round a tensor of any shape; while the range is calibrated, return it as it is."""
        if self.calibration_batches is not None:
            self.calibration_batches += 1
            self._follow(x, 1 / self.calibration_batches)
            return x
        if self.training:
            self._follow(x, _MOMENTUM)
        scale, zero = self.scale_and_zero_point()
        rounded = torch.fake_quantize_per_tensor_affine(_in_float(x), scale, zero, 0, ACTIVATION_QMAX)
        return rounded.to(x.dtype)

    def scale_and_zero_point(self) -> tuple[Tensor, Tensor]:
        """Return the scale, (), the distance of two values, and the zero point, () int32."""
        low, high = self.low.float().clamp(max=0), self.high.float().clamp(min=0)
        scale = ((high - low) / ACTIVATION_QMAX).clamp(min=_SMALLEST_SCALE)
        return scale, (-low / scale).round().clamp(0, ACTIVATION_QMAX).to(torch.int32)

    @torch.no_grad()
    def _follow(self, x: Tensor, weight: float) -> None:
        low, high = torch.aminmax(x.detach())
        if self.rectified:
            low, high = torch.zeros_like(low), high.clamp(min=0)
        self.low.lerp_(low.to(self.low), weight)
        self.high.lerp_(high.to(self.high), weight)


class OutputRounding:
    """A forward hook that rounds the output of a module to a range.

    Args:
        range: The range; a module of the network has it, so that it is saved.
    """

    def __init__(self, range: ActivationRange) -> None:
        self.range = range

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Round the output."""
        return self.range(output)


def weight_scales(weight: Tensor) -> Tensor:
    """Return the scale of each filter of a weight (N, ...), (N,) in float32."""
    largest = weight.detach().float().abs().flatten(1).amax(1)
    return (largest / WEIGHT_QMAX).clamp(min=_SMALLEST_SCALE)


def fake_quantize_weight(weight: Tensor) -> Tensor:
    """Round a weight (N, ...) to 255 values a filter; the gradient is that of the weight."""
    scales = weight_scales(weight)
    zeros = torch.zeros_like(scales)  # torch looks at the values of whole ones, which no CUDA graph can
    ends = (-WEIGHT_QMAX, WEIGHT_QMAX)
    return torch.fake_quantize_per_channel_affine(_in_float(weight), scales, zeros, 0, *ends).to(weight.dtype)


class RoundedLayer(nn.Module):
    """What a layer under fake quantisation has beside its tensors."""

    input_range: ActivationRange
    """The range of what enters."""
    output_range: ActivationRange | None
    """The range of what leaves the layer, or the batch-norm after it; None if it is not rounded."""
    norm: str | None
    """Name of the batch-norm that alone gets the output, or None."""


class _RoundedConv(RoundedLayer, _ConvNd):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(self.input_range(x), fake_quantize_weight(weight), bias)


class QuantizedConv1d(_RoundedConv, nn.Conv1d):
    """A convolution under fake quantisation."""


class QuantizedConv2d(_RoundedConv, nn.Conv2d):
    """A convolution under fake quantisation."""


class QuantizedLinear(RoundedLayer, nn.Linear):
    """A linear layer under fake quantisation."""

    def forward(self, input: Tensor) -> Tensor:  # named as that of nn.Linear, which may be called by keyword
        """Multiply: (B, ..., inputs) -> (B, ..., N)."""
        return F.linear(self.input_range(input), fake_quantize_weight(self.weight), self.bias)


Quantized: TypeAlias = QuantizedConv1d | QuantizedConv2d | QuantizedLinear

STAND_INS: dict[type[nn.Module], type[Quantized]] = {
    nn.Conv1d: QuantizedConv1d,
    nn.Conv2d: QuantizedConv2d,
    nn.Linear: QuantizedLinear,
}
"""The class of each kind of layer under fake quantisation; layers of other classes stay in float.

A layer changes its class, and keeps its tensors, masks and hooks."""


def kind_of(layer: nn.Module) -> type[nn.Module]:
    """Return the class of a layer, without the one that torch makes for each layer with a parametrisation."""
    kind = type(layer)
    return kind.__bases__[0] if is_parametrized(layer) else kind


def change_kind(layer: nn.Module, kind: type[nn.Module]) -> None:
    """Change what :func:`kind_of` returns; parametrisations stay."""
    own = type(layer)
    # Copies share the class that torch made, so it is not changed.
    layer.__class__ = type(own.__name__, (kind,), dict(vars(own))) if is_parametrized(layer) else kind


def layers_in_float(model: nn.Module) -> list[str]:
    """Return the names of the layers with weights, other than norms, that are not under quantisation."""
    quantized = quantized_layers(model)
    return [
        name or "the network"
        for name, module in model.named_modules()
        if name not in quantized and _has_weight(module)
    ]


def _has_weight(module: nn.Module) -> bool:
    if isinstance(module, nn.LayerNorm):
        return False
    own = [name for name, p in module._parameters.items() if p is not None and p.ndim >= 2]
    return any(name.startswith("weight") for name in own) or is_parametrized(module, "weight")


def quantized_layers(model: nn.Module) -> dict[str, Quantized]:
    """Return the layers of a network that are under fake quantisation, by name."""
    kinds = tuple(STAND_INS.values())
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


def _in_float(x: Tensor) -> Tensor:
    """Convert to a type that torch can round in."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
