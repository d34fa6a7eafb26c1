"""Replace reparametrised weights, which every forward pass computes from other tensors, by plain ones.

A standardised or normalised weight depends on all of its entries, so no filter or input channel of it can be
removed. With plain weights the network computes the same in evaluation mode; further training is without the
reparametrisation.

Shapes: B images, C channels, H and W pixels.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import remove_spectral_norm, remove_weight_norm
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils._python_dispatch import TorchDispatchMode

from ..io.memory import is_out_of_memory
from .copying import replica
from .inputs import run_on_copy
from .weight_masks import remove_masks


class SameConv2d(nn.Conv2d):
    """A convolution that pads its input to ceil(size / stride) outputs, as TensorFlow does."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve: (B, C, H, W) -> (B, filters, ceil(H / stride), ceil(W / stride))."""
        edges: list[int] = []
        for axis in (1, 0):  # F.pad begins with the last axis
            stride, size = self.stride[axis], x.shape[2 + axis]
            reach = (
                (math.ceil(size / stride) - 1) * stride
                + self.dilation[axis] * (self.kernel_size[axis] - 1)
                + 1
            )
            padding = max(0, reach - size)
            edges += [padding // 2, padding - padding // 2]
        return super().forward(F.pad(x, edges))


def remove_reparametrizations(model: nn.Module) -> nn.Module:
    """Copy a network and replace weights that are computed from other tensors by their values.

    Covers torch's hooks and parametrisations for weight and spectral normalisation, all other
    parametrisations, and convolutions whose class standardises the weight (timm's ``StdConv2d`` and
    ``ScaledStdConv2d``, among others).

    Args:
        model: Any network; it is not changed.

    Returns:
        A copy that computes the same in evaluation mode. If any weight was replaced, its attribute ``baked``
        is True, and :func:`.load_pruned` does the same to the network that the factory makes.
    """
    baked = replica(model).eval()
    changed = False
    with torch.no_grad():
        for name, module in list(baked.named_modules()):
            changed |= _remove_norm_hooks(module)
            if is_parametrized(module):
                _remove_parametrizations(module)
                changed = True
            elif isinstance(module, nn.Conv2d) and (plain := _plain_convolution(module)) is not None:
                baked.set_submodule(name, plain)
                changed = True
    if changed:
        baked.baked = True  # type: ignore[assignment]
    return baked.train(model.training)


def with_plain_weights(model: nn.Module) -> nn.Module:
    """Copy a network as it ships: masks of ``torch.nn.utils.prune`` and reparametrisations are written in.

    Args:
        model: Any network; it is not changed.

    Returns:
        A copy that computes the same in evaluation mode, and computes no weight in its passes.
    """
    return remove_masks(remove_reparametrizations(model))


def _remove_norm_hooks(module: nn.Module) -> bool:
    """Remove weight and spectral normalisation made with torch's older hooks."""
    hooks = list(module._forward_pre_hooks.values())
    for hook in hooks:
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
    return any(isinstance(hook, WeightNorm | SpectralNorm) for hook in hooks)


def _remove_parametrizations(module: nn.Module) -> None:
    # Copies share the class that torch made for the parametrisation; removal deletes a property of that
    # class.
    shared = type(module)
    module.__class__ = type(shared.__name__, shared.__bases__, dict(shared.__dict__))
    with torch.enable_grad():  # torch would make a weight without gradient a buffer
        for parameter in list(module.parametrizations):  # type: ignore[arg-type]
            remove_parametrizations(module, parameter)


class _LastConvolution(TorchDispatchMode):
    """Record the arguments of the last convolution that ran."""

    arguments: Sequence[Any] = ()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        if func is torch.ops.aten.convolution.default:
            self.arguments = args
        return func(*args, **(kwargs or {}))


def _plain_convolution(module: nn.Conv2d) -> nn.Conv2d | None:
    """Build a plain convolution that computes the same as a subclass with its own forward, if possible."""
    if type(module).forward in (nn.Conv2d.forward, SameConv2d.forward):
        return None
    probes = [torch.randn(2, module.in_channels, size, size).to(module.weight) for size in (32, 37)]
    try:
        with _LastConvolution() as last:
            expected = [run_on_copy(module, x) for x in probes]
        _, weight, bias, stride, padding, dilation, _, _, groups = last.arguments
    except (RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        return None  # it needs another input, or runs no convolution
    if weight.shape != module.weight.shape or torch.equal(weight, module.weight):
        return None
    settings: dict[str, Any] = {
        "kernel_size": module.kernel_size,
        "stride": tuple(stride),
        "padding": tuple(padding),
        "dilation": tuple(dilation),
        "groups": groups,
        "bias": bias is not None,
    }
    for kind in (nn.Conv2d, SameConv2d):
        plain = kind(module.in_channels, module.out_channels, **settings).to(weight)
        plain.weight.copy_(weight)
        if plain.bias is not None:
            plain.bias.copy_(bias)
        if all(_close(a, plain(x)) for a, x in zip(expected, probes, strict=True)):
            return plain
    return None


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5)
