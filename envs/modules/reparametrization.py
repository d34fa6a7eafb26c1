"""Plain weights in place of weights that are computed anew in every forward pass.

A standardised or normalised weight depends on all of its entries, so no filter and no input channel of it
could go. Baked, the network computes the same in evaluation mode; trained further, it is free of the
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

from .copying import copy_model
from .inputs import run_on_copy


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
            missing = max(0, reach - size)
            edges += [missing // 2, missing - missing // 2]
        return super().forward(F.pad(x, edges))


def remove_reparametrizations(model: nn.Module) -> nn.Module:
    """Replace weights that are computed from others by their values.

    Covers weight and spectral normalisation in torch's two ways, all other parametrisations, and convolutions
    whose class standardises the weight (timm's ``StdConv2d`` and ``ScaledStdConv2d``, among others).

    Args:
        model: Any network; it is left as it is.

    Returns:
        A copy that computes the same in evaluation mode. If anything was baked, its attribute ``baked`` is
        True, and :func:`.load_pruned` does the same to what the factory gives.
    """
    baked = copy_model(model).eval()
    done = False
    with torch.no_grad():
        for name, module in list(baked.named_modules()):
            done |= _unhook(module)
            if is_parametrized(module):
                _unparametrise(module)
                done = True
            elif isinstance(module, nn.Conv2d) and (plain := _plain_convolution(module)) is not None:
                baked.set_submodule(name, plain)
                done = True
    if done:
        baked.baked = True  # type: ignore[assignment]
    return baked.train(model.training)


def _unhook(module: nn.Module) -> bool:
    """Remove the older kind of weight and spectral normalisation."""
    hooks = list(module._forward_pre_hooks.values())
    for hook in hooks:
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
    return any(isinstance(hook, WeightNorm | SpectralNorm) for hook in hooks)


def _unparametrise(module: nn.Module) -> None:
    # Copies share the class that parametrising made, and removing takes a property off that class.
    own = type(module)
    module.__class__ = type(own.__name__, own.__bases__, dict(own.__dict__))
    with torch.enable_grad():  # what needs no gradient would become a buffer
        for parameter in list(module.parametrizations):  # type: ignore[arg-type]
            remove_parametrizations(module, parameter)


class _LastConvolution(TorchDispatchMode):
    """Remember the weight, and with what settings, of the last convolution that ran."""

    arguments: Sequence[Any] = ()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        if func is torch.ops.aten.convolution.default:
            self.arguments = args
        return func(*args, **(kwargs or {}))


def _plain_convolution(module: nn.Conv2d) -> nn.Conv2d | None:
    """Find a plain convolution that does what a subclass with its own forward does, if there is one."""
    if type(module).forward in (nn.Conv2d.forward, SameConv2d.forward):
        return None
    probes = [torch.randn(2, module.in_channels, size, size).to(module.weight) for size in (32, 37)]
    try:
        with _LastConvolution() as last:
            expected = [run_on_copy(module, x) for x in probes]
        _, weight, bias, stride, padding, dilation, _, _, groups = last.arguments
    except (RuntimeError, TypeError, ValueError):
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


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-5)
