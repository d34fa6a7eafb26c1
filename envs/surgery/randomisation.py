"""Random weights and inputs on which a cut is tried, so that nothing is hidden by zeros or by symmetry."""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ..modules.calls import Call
from ..modules.copying import replica
from ..modules.precision import converted

_EPS = 0.1
"""Epsilon of batch-norm, so that training mode is well conditioned on a few pixels."""


def randomised(model: nn.Module, number: int = 0, precision: torch.dtype = torch.float64) -> nn.Module:
    """Copy a network to the CPU with random parameters and batch-norm state.

    Args:
        model: Any network; it is not changed.
        number: Number of the draw, from 0.
        precision: float64 or float32.
    """
    probe = converted(replica(model).cpu(), precision)
    for module in probe.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eps = _EPS
    randomise_(probe, model, number)
    return probe


def randomise_(probe: nn.Module, model: nn.Module, number: int) -> None:
    """Set the parameters and the batch-norm state of a copy of a network to random numbers.

    No weight stays zero, as masking it would be invisible.

    Args:
        probe: The copy.
        model: The network.
        number: Number of the draw, from 0. The first draw adds noise to the parameters; later ones keep their
            scale only, as a filter that is dead on all inputs stays dead with noise.
    """
    generator = torch.Generator().manual_seed(number)
    originals = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, tensor in [*probe.named_parameters(), *probe.named_buffers()]:
            tensor.copy_(originals[name])
            real = torch.view_as_real(tensor.data) if tensor.is_complex() else tensor.data
            if real.is_floating_point() and real.numel():
                _draw_(real, name, isinstance(tensor, nn.Parameter), number, generator)


def _draw_(tensor: Tensor, name: str, is_parameter: bool, number: int, generator: torch.Generator) -> None:
    noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype).mul_(2.0).sub_(1.0)
    if name.endswith("running_var"):
        tensor.copy_(1.5 + noise)
    elif name.endswith("running_mean"):
        tensor.copy_(noise * 0.1)
    elif is_parameter:
        spread = 0.4 if tensor.ndim <= 1 else float(tensor.std(correction=0)) or 0.4
        if tensor.ndim == 1 and name.endswith("weight"):
            tensor.fill_(1.0)
        elif number:
            tensor.zero_()
            # The standard deviation of the noise is 1/sqrt(3).
            spread *= 1.0 if tensor.ndim <= 1 else math.sqrt(3.0)
        if number and tensor.ndim <= 1:
            noise.abs_()  # with positive biases fewer filters are dead
        tensor.add_(noise, alpha=spread)


def drawn(call: Call, number: int) -> Call:
    """Shuffle the inputs of a call from the second draw on; constant ones become random in all draws.

    A network without biases is zero on zeros.
    """

    def draw(x: Tensor) -> Tensor:
        if not x.is_floating_point() or x.numel() < 2:
            return x
        generator = torch.Generator().manual_seed(number)
        if bool((x == x.flatten()[0]).all()):
            return torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return x.flatten()[torch.randperm(x.numel(), generator=generator)].view(x.shape) if number else x

    return replace(call, inputs=tree_map_only(Tensor, draw, call.inputs))
