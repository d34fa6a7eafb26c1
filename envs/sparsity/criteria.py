"""Which single weights stay: criteria that turn a share into keep masks.

All criteria look at the weights of convolutions and linear layers alone, and leave at least one weight in
each layer. What a mask has removed before stays removed, and counts among the removed. So shares are of all
weights of the dense network, counts are exact, also among equal weights, and masks of smaller shares lie
inside those of larger ones.

Shapes: each mask has the shape of its weight; True stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from ..io.ranges import check_real, check_whole
from .masks import Masks, keep_masks, prunable_weights

Scope = Literal["global", "layer", "deviation"]
"""On which scale magnitudes are compared: on one for all layers; within each layer, which all keep the same
share; or on one for all layers, in units of the deviation of the layer's weights."""


def magnitude_masks(model: nn.Module, share: float, scope: Scope = "global") -> dict[str, Tensor]:
    """Keep the weights of the largest magnitude.

    With the scope ``deviation`` weights below a threshold go: a factor times the deviation of their layer's
    weights (Han et al. 2015, arXiv 1506.02626, section 3.4), of which those that are removed do not count.

    Args:
        model: A network, masked or not.
        share: Share of the weights of the dense network that stays, in (0, 1].
        scope: On which scale magnitudes are compared.

    Returns:
        Keep masks of all prunable weights. With ``layer`` the share is met in each layer, else in sum.

    Raises:
        ValueError: If the share or the scope is not allowed.
    """
    if scope not in ("global", "layer", "deviation"):
        raise ValueError(f"scope is {scope!r}; allowed are global, layer and deviation")
    weights, alive = _weights(model)
    scores = {name: weight.abs() for name, weight in weights.items()}
    if scope == "deviation":
        scores = {name: score / _deviation(weights[name], alive[name]) for name, score in scores.items()}
    if scope == "layer":
        return {
            name: mask for name in scores for mask in _strongest({name: scores[name]}, alive, share).values()
        }
    return _strongest(scores, alive, share)


def random_masks(model: nn.Module, share: float, seed: int) -> dict[str, Tensor]:
    """Keep weights by chance, each with the same.

    Args:
        model: A network, masked or not.
        share: Share of the weights of the dense network that stays, in (0, 1].
        seed: Seed of the draw.

    Returns:
        Keep masks of all prunable weights.

    Raises:
        ValueError: If the share is not allowed.
    """
    weights, alive = _weights(model)
    generator = torch.Generator().manual_seed(seed)  # of the CPU, so that all devices draw the same
    scores = {
        name: torch.rand(weight.shape, generator=generator).to(weight.device)
        for name, weight in weights.items()
    }
    return _strongest(scores, alive, share)


def threshold_factor(model: nn.Module, share: float) -> float:
    """Return the largest factor with which the scope ``deviation`` of :func:`magnitude_masks` keeps a share.

    No search is needed: it is the smallest score among the weights that stay.

    Args:
        model: A network, masked or not.
        share: Share of the weights of the dense network that stays, in (0, 1].

    Raises:
        ValueError: If the share is not allowed.
    """
    weights, alive = _weights(model)
    scores = {name: weight.abs() / _deviation(weight, alive[name]) for name, weight in weights.items()}
    masks = magnitude_masks(model, share, "deviation")
    # A layer's largest weight stays below any threshold, so it does not tell where the threshold is.
    kept = torch.cat([scores[name][mask].sort(descending=True).values[1:] for name, mask in masks.items()])
    return float(kept.min()) if kept.numel() else max(float(score.max()) for score in scores.values())


def n_of_m_masks(model: nn.Module, n: int = 2, m: int = 4) -> dict[str, Tensor]:
    """Keep the n largest of each m weights in a row along the input channels, as sparse kernels want them.

    Mishra et al. 2021, arXiv 2104.08378, section 3.

    Args:
        model: A network, masked or not.
        n: Weights that stay in a group, 1 to m.
        m: Weights of a group, at least 2.

    Returns:
        Keep masks of the layers whose filters have a multiple of m input channels; others stay whole, and
        have none.

    Raises:
        ValueError: If n or m is not allowed.
    """
    check_whole("m", m, 2)
    check_whole("n", n, 1, m)
    weights, alive = _weights(model)
    masks = {}
    for name, weight in weights.items():
        inputs, count = _inputs(model, name, weight)
        if count % m:
            continue
        score = weight.abs().masked_fill(~alive[name], -1).movedim(inputs, -1)
        groups = score.reshape(-1, m)
        best = groups.argsort(dim=1, descending=True, stable=True)[:, :n]
        kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, best, True)
        masks[name] = kept.reshape(score.shape).movedim(-1, inputs).contiguous() & alive[name]
    return masks


def _weights(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the prunable weights, as numbers that can be ranked, and which of them no mask has removed."""
    weights = {name: weight.detach().float() for name, weight in prunable_weights(model).items()}
    if not weights:
        raise ValueError("the network has no convolution and no linear layer, so no weights to prune")
    held = keep_masks(model)
    alive = {
        name: held.get(name, torch.ones_like(weight, dtype=torch.bool)) for name, weight in weights.items()
    }
    return weights, alive


def _strongest(scores: Mapping[str, Tensor], alive: Masks, share: float) -> dict[str, Tensor]:
    """Keep a share of all entries: those with the highest scores, and the best of each layer."""
    check_real("the share of weights that stays", share, 0, 1)
    if share == 0:
        raise ValueError("the share of weights that stays is 0; allowed is above 0, up to 1")
    flat = {name: score.masked_fill(~alive[name], -math.inf).flatten() for name, score in scores.items()}
    every = torch.cat(list(flat.values()))
    first, begin = [], 0
    for score in flat.values():
        first.append(begin + int(score.argmax()))
        begin += score.numel()
    ranked = every.clone()
    ranked[first] = math.inf  # so that no layer is left empty
    count = max(len(first), round(share * every.numel()))
    best = ranked.argsort(descending=True, stable=True)[:count]
    kept = torch.zeros_like(every, dtype=torch.bool)
    kept[best] = True
    kept &= every > -math.inf
    parts = kept.split([score.numel() for score in flat.values()])
    return {name: part.reshape(scores[name].shape) for (name, part) in zip(flat, parts, strict=True)}


def _deviation(weight: Tensor, alive: Tensor) -> Tensor:
    """Return the deviation of the weights of a layer that no mask has removed; never zero."""
    left = weight[alive]
    deviation = left.std(correction=0) if left.numel() else left.new_ones(())
    return torch.where(deviation > 0, deviation, torch.ones_like(deviation))


def _inputs(model: nn.Module, name: str, weight: Tensor) -> tuple[int, int]:
    """Return the dimension of a weight's input channels, and how many of them a filter has."""
    module = model.get_submodule(name.rpartition(".")[0])
    if isinstance(module, _ConvTransposeNd):  # its groups are along its inputs
        return 0, len(weight) // module.groups
    return 1, weight.shape[1]
