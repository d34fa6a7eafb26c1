"""Layers of whole numbers, in the operations of a runtime: what fake quantisation simulates.

A layer has its weights as int8, with a scale for each filter, and rounds what enters it, and where needed
what leaves it, to uint8. In between it multiplies numbers that are whole up to a scale; runtimes recognise
this form and compute with whole numbers. Batch-norm is folded into scales and biases.

Shapes: N filters.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ..modules.batchnorm_folding import affine_of_batchnorm
from ..modules.reparametrization import with_plain_weights
from .fake import (
    ACTIVATION_QMAX,
    WEIGHT_QMAX,
    ActivationRange,
    Quantized,
    QuantizedConv1d,
    QuantizedConv2d,
    QuantizedLinear,
    quantized_layers,
    weight_scales,
)
from .insertion import remove_fake_quantization

Runtime: TypeAlias = Literal["onnx", "torch"]

_OPSET = 13
"""Version of ONNX's operators that has scales by channel."""

_LARGEST_BIAS = 2**30
"""Largest whole number of a bias, in int32 with room for the sum."""


class QuantizeDequantize(nn.Module):
    """Round a tensor to uint8, and return the whole numbers times their scale."""

    scale: Tensor
    zero: Tensor

    def __init__(self, range: ActivationRange, runtime: Runtime) -> None:
        super().__init__()
        scale, zero = range.scale_and_zero_point()
        self._numbers = (float(scale), int(zero), 0, ACTIVATION_QMAX, torch.uint8)
        self._runtime = runtime
        self.register_buffer("scale", scale.clone())
        self.register_buffer("zero", zero.to(torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        """Round a tensor of any shape."""
        if self._runtime == "torch":
            operations = torch.ops.quantized_decomposed
            whole = operations.quantize_per_tensor(x, *self._numbers)
            return operations.dequantize_per_tensor(whole, *self._numbers)
        whole = _onnx("QuantizeLinear", (x, self.scale, self.zero), torch.uint8, x.shape)
        return _onnx("DequantizeLinear", (whole, self.scale, self.zero), torch.float32, x.shape)


class DequantizedTensor(nn.Module):
    """Whole numbers times a scale for each filter.

    Args:
        values: Whole numbers (N, ...), int8 or int32.
        scales: The scales, (N,).
        runtime: Whose operations are used.
    """

    values: Tensor
    scales: Tensor
    zeros: Tensor

    def __init__(self, values: Tensor, scales: Tensor, runtime: Runtime) -> None:
        super().__init__()
        self._runtime = runtime
        self.register_buffer("values", values)
        self.register_buffer("scales", scales)
        dtype = torch.int64 if runtime == "torch" else values.dtype
        self.register_buffer("zeros", torch.zeros_like(scales, dtype=dtype))

    def forward(self) -> Tensor:
        """Multiply."""
        if self._runtime == "torch":
            ends = (-WEIGHT_QMAX, WEIGHT_QMAX, self.values.dtype)
            return torch.ops.quantized_decomposed.dequantize_per_channel(
                self.values, self.scales, self.zeros, 0, *ends
            )
        inputs = (self.values, self.scales, self.zeros)
        return _onnx("DequantizeLinear", inputs, torch.float32, self.values.shape, axis=0)


class FloatBias(nn.Module):
    """A bias in float, as torchao keeps it, or none."""

    values: Tensor | None

    def __init__(self, values: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("values", values)

    def forward(self) -> Tensor | None:
        """Return the bias."""
        return self.values


def _onnx(name: str, inputs: tuple[Tensor, ...], dtype: torch.dtype, shape: Any, **attributes: Any) -> Tensor:
    return torch.onnx.ops.symbolic(name, inputs, attributes, dtype=dtype, shape=shape, version=_OPSET)


class _IntegerLayer(nn.Module):
    rounded_input: nn.Module
    integer_weight: nn.Module
    integer_bias: nn.Module
    rounded_output: nn.Module


class _IntegerConv(_IntegerLayer, _ConvNd):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y: Tensor = super()._conv_forward(self.rounded_input(x), self.integer_weight(), self.integer_bias())
        return self.rounded_output(y)


class _IntegerConv1d(_IntegerConv, nn.Conv1d):
    pass


class _IntegerConv2d(_IntegerConv, nn.Conv2d):
    pass


class _IntegerLinear(_IntegerLayer, nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        y = F.linear(self.rounded_input(input), self.integer_weight(), self.integer_bias())
        return self.rounded_output(y)


_INTEGER: dict[type[Quantized], type[nn.Module]] = {
    QuantizedConv1d: _IntegerConv1d,
    QuantizedConv2d: _IntegerConv2d,
    QuantizedLinear: _IntegerLinear,
}


def integer_network(model: nn.Module, runtime: Runtime) -> nn.Module:
    """Copy a network under fake quantisation as one of whole numbers, on the CPU and in evaluation mode.

    Args:
        model: A network under fake quantisation; it is not changed.
        runtime: Whose operations the copy is made of: those of ``onnx`` run after the export only.
    """
    integer = with_plain_weights(model).cpu().eval()
    layers = quantized_layers(integer)
    kinds = {name: _INTEGER[type(layer)] for name, layer in layers.items()}
    parts = {name: _parts(layer, integer, runtime) for name, layer in layers.items()}
    norms = [layer.norm for layer in layers.values() if layer.norm is not None]
    remove_fake_quantization(integer)
    for name, layer in layers.items():
        layer.__class__ = kinds[name]  # type: ignore[assignment]
        for part, module in parts[name].items():
            layer.add_module(part, module)
        layer.register_parameter("weight", None)
        layer.register_parameter("bias", None)
    for norm in norms:
        integer.set_submodule(norm, nn.Identity())
    return integer


def int8_bytes(model: nn.Module) -> int:
    """Return the bytes of a network under fake quantisation in int8: its tensors, without the graph."""
    tensors = integer_network(model, "onnx").state_dict().values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _parts(layer: Quantized, model: nn.Module, runtime: Runtime) -> dict[str, nn.Module]:
    """Compute the whole numbers of a layer, with the batch-norm that follows it."""
    scales = weight_scales(layer.weight)
    factor, bias = torch.ones_like(scales), None if layer.bias is None else layer.bias.detach()
    if layer.norm is not None:
        factor, bias = _folded(model.get_submodule(layer.norm), bias)
    column = (-1, *[1] * (layer.weight.dim() - 1))
    values = (layer.weight.detach().float() / scales.view(column)).round().clamp(-WEIGHT_QMAX, WEIGHT_QMAX)
    values, scales = values * factor.sign().view(column), scales * factor.abs()
    rounding = QuantizeDequantize(layer.input_range, runtime)
    if bias is not None:
        # A filter that is next to nothing beside its bias: its scale would make the bias too large for int32.
        least = bias.abs() / (rounding.scale * _LARGEST_BIAS)
        values = torch.where((scales < least).view(column), 0.0, values)
        scales = torch.maximum(scales, least)
    scales = scales.clamp(min=torch.finfo(torch.float32).tiny)
    output = layer.output_range
    return {
        "rounded_input": rounding,
        "integer_weight": DequantizedTensor(values.to(torch.int8), scales, runtime),
        "integer_bias": _bias(bias, scales * rounding.scale, runtime),
        "rounded_output": nn.Identity() if output is None else QuantizeDequantize(output, runtime),
    }


def _bias(bias: Tensor | None, scales: Tensor, runtime: Runtime) -> nn.Module:
    if bias is None or runtime == "torch":
        return FloatBias(bias)
    return DequantizedTensor((bias / scales).round().to(torch.int32), scales, runtime)


def _folded(norm: nn.Module, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return what batch-norm multiplies each filter by, (N,), and the bias after it, (N,)."""
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain, offset, before = (None if one is None else one.detach() for one in (norm.weight, norm.bias, bias))
    return affine_of_batchnorm(gain, offset, norm.running_mean, norm.running_var, norm.eps, before)
