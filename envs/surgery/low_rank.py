"""Layers of low rank: a convolution or a linear layer becomes two smaller ones.

The first has r filters of the same kernel, stride, padding and dilation, the second maps them to all N by a
1x1 convolution with the bias (Zhang et al. 2015, arXiv 1505.06798, fig. 1; Denton et al. 2014,
arXiv 1404.0736, section 3.2, for the decomposition). The two are a ``nn.Sequential`` in place of the layer.

Shapes: N filters, M weights of a filter, r the rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ..io.untrusted import short
from ..modules.copying import replica

RIDGE = 1e-3
"""Share of an even error in all weights that counts beside that of the outputs. The outputs of a few images
say nothing about directions that these never take."""

Moments = tuple[Tensor, Tensor]
"""Mean (N,) and covariance (N, N) of a layer's outputs."""


@dataclass(frozen=True)
class Spectrum:
    """The directions of a layer's outputs, the most important first.

    Args:
        basis: Orthonormal directions, (N, R) for R = min(N, M).
        energies: What is lost without each direction, (R,), descending: squared singular values, or the
            variance of the outputs.
        mean: Mean of the outputs (N,), which a bias keeps; None if unknown.
    """

    basis: Tensor
    energies: Tensor
    mean: Tensor | None = None

    @classmethod
    def of(cls, module: nn.Module, moments: Moments | None = None) -> Spectrum:
        """Decompose the weight of a layer.

        Args:
            module: A convolution or linear layer.
            moments: Mean and covariance of its outputs, for the directions in which the outputs vary most
                (Zhang et al. 2015, eq. 4); None for the singular vectors of the weight. Before fine-tuning
                ResNet-20 keeps 78 % with the first and 72 % with the second, at half of its MACs. Errors in
                units of the batch-norm that follows would be no better.
        """
        weight = _matrix(module)
        if moments is None:
            basis, values, _ = torch.linalg.svd(weight, full_matrices=False)
            return cls(basis, values.square())
        mean, covariance = (moment.to(weight) for moment in moments)
        if module.bias is None:  # nothing would keep the mean, so it counts as the rest does
            covariance, mean = covariance + torch.outer(mean, mean), None
        even = weight @ weight.T
        share = RIDGE * covariance.trace() / even.trace().clamp_min(1e-30)
        energies, basis = torch.linalg.eigh(covariance + share * even)
        full = min(weight.shape)
        return cls(basis.flip(1)[:, :full], energies.flip(0)[:full].clamp_min(0.0), mean)


def low_rank(
    model: nn.Module, ranks: Mapping[str, int], spectra: Mapping[str, Spectrum] | None = None
) -> nn.Module:
    """Copy a network with some of its layers as two of low rank.

    Args:
        model: A network; it is not changed.
        ranks: The rank of each layer, by module name; at full rank the copy computes the same.
        spectra: The directions that stay, by module name; where there is none, those of the weight alone.

    Raises:
        ValueError: If the network has no such convolution or linear layer, or a rank is out of its range.
    """
    smaller = replica(model)
    with torch.no_grad():
        for name, rank in ranks.items():
            module = layer_at(smaller, name, rank)
            spectrum = (spectra or {}).get(name) or Spectrum.of(module)
            put_pair(smaller, name, *_factors(module, rank, spectrum))
    return smaller


def put_pair(model: nn.Module, name: str, first: Tensor, second: Tensor, bias: Tensor | None) -> None:
    """Replace a layer, in place, by two with given weights.

    Args:
        model: The network.
        name: Name of the layer.
        first: Weights of the first, (r, M).
        second: Weights of the second, (N, r).
        bias: Bias of the second, (N,), or None.
    """
    module: Any = model.get_submodule(name)
    pair: Any = empty_pair(module, len(first))
    with torch.no_grad():
        pair[0].weight.copy_(first.view_as(pair[0].weight))
        pair[1].weight.copy_(second.view_as(pair[1].weight))
        if bias is not None:
            pair[1].bias.copy_(bias)
    model.set_submodule(name, pair)


def empty_pair(module: nn.Module, rank: int) -> nn.Sequential:
    """Build the two layers of a rank for a layer; their weights are random."""
    assert isinstance(module, _ConvNd | nn.Linear)
    has_bias, weight = module.bias is not None, module.weight
    settings: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    pair: nn.Sequential
    if isinstance(module, nn.Linear):
        pair = nn.Sequential(
            nn.Linear(module.in_features, rank, bias=False, **settings),
            nn.Linear(rank, module.out_features, bias=has_bias, **settings),
        )
    else:
        kind: Any = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(module.kernel_size)]
        first = kind(
            module.in_channels, rank, module.kernel_size, module.stride, module.padding, module.dilation,
            bias=False, padding_mode=module.padding_mode, **settings,
        )  # fmt: skip
        pair = nn.Sequential(first, kind(rank, module.out_channels, 1, bias=has_bias, **settings))
    return pair.requires_grad_(weight.requires_grad).train(module.training)


def put_empty_pairs(model: nn.Module, ranks: Mapping[str, int]) -> None:
    """Replace layers, in place, by two of their ranks with random weights.

    Raises:
        ValueError: If the network has no such convolution or linear layer, or a rank is out of its range.
    """
    with torch.random.fork_rng(devices=[]):
        for name, rank in ranks.items():
            model.set_submodule(name, empty_pair(layer_at(model, name, rank), rank))


def layer_at(model: nn.Module, name: str, rank: int) -> nn.Module:
    """Return a layer that can have a rank.

    Raises:
        ValueError: If the network has no such convolution or linear layer, or the rank is out of its range.
    """
    module = dict(model.named_modules()).get(name)
    known = isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear) and name
    if not known or getattr(module, "groups", 1) != 1:
        raise ValueError(
            f"the plan gives {short(name)!r} a rank, which is no convolution without groups and no linear "
            "layer of this network"
        )
    assert module is not None
    full = full_rank(module)
    if not 1 <= rank <= full:
        raise ValueError(f"the rank of {name!r} is {rank}; allowed is 1 to {full}")
    return module


def full_rank(module: nn.Module) -> int:
    """Return the largest rank that the weight of a layer can have."""
    weight: Any = module.weight
    return min(len(weight), weight[0].numel())


def _matrix(module: nn.Module) -> Tensor:
    weight: Any = module.weight
    return weight.detach().flatten(1).double().cpu()


def _factors(module: nn.Module, rank: int, spectrum: Spectrum) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the weights (r, M) and (N, r) of the two layers, and the bias."""
    weight = _matrix(module)
    bias: Tensor | None = None if module.bias is None else module.bias.detach().double().cpu()  # type: ignore
    if rank == full_rank(module):  # exactly, whatever the directions are
        spectrum = Spectrum.of(module)
    basis = spectrum.basis[:, :rank]
    first = basis.T @ weight
    if bias is not None and spectrum.mean is not None:
        bias = spectrum.mean - basis @ (basis.T @ (spectrum.mean - bias))
    # Both get the same share of the scale, so that weight decay and steps are as large in both.
    scale = first.norm(dim=1).clamp_min(1e-30).sqrt()
    return first / scale[:, None], basis * scale, bias
