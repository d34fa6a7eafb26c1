"""Optimisers of a training, which weights decay, and where gradients are clipped."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import SGD, AdamW, Optimizer

from .config import RecoveryConfig

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Normalisations of torch, whose weights may have several axes."""

_LARGEST_GRADIENT = 5.0
"""Largest norm of the gradient of a network without normalisation layers. Without it LeNet-5 diverged in one
of three recoveries in int8, whose usual gradients are shorter (the median is 0.6), and from random weights in
its first pass over MNIST (two seeds of two). LeNet-300-100 never reaches it."""


def make_optimizer(model: nn.Module, config: RecoveryConfig) -> Optimizer:
    """Create the optimiser of a training, with the largest learning rate of its schedule.

    Args:
        model: The network; parameters that need no gradient are left out.
        config: Settings of the training.
    """
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter, decays in _parameters(model):
        (decaying if decays else others).append(parameter)
    groups = [
        {"params": decaying, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    rate = config.recipe.learning_rate
    if config.optimiser == "adamw":
        return AdamW(groups, lr=rate, betas=(config.momentum, 0.999))
    return SGD(groups, lr=rate, momentum=config.momentum, nesterov=config.momentum > 0)


def largest_gradient(model: nn.Module, config: RecoveryConfig) -> float | None:
    """Return the norm to which longer gradients are scaled down; None if they stay as they are."""
    if config.max_grad_norm is not None:
        return config.max_grad_norm
    has_norms = any(isinstance(module, _NORMS) for module in model.modules())
    return None if has_norms else _LARGEST_GRADIENT


def _parameters(model: nn.Module) -> Iterator[tuple[nn.Parameter, bool]]:
    """Yield each trained parameter once, and whether it decays.

    Norms, biases and other vectors do not: a decay of them is no regularisation of the function that the
    network computes (He et al. 2019, arXiv 1812.01187, section 3.1).
    """
    seen = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                is_spared = isinstance(module, _NORMS) or parameter.dim() < 2 or name.endswith("bias")
                yield parameter, not is_spared
