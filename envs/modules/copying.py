"""Copies of networks."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.weight_norm import WeightNorm


def replica(model: nn.Module, replacements: Mapping[Tensor, Tensor] | None = None) -> nn.Module:
    """Copy a network, its hooks and shared parameters included.

    ``torch.nn.utils.prune`` and the older ``weight_norm`` store tensors computed from parameters in a
    module's attributes. ``copy.deepcopy`` refuses these, so they are copied by value.

    Args:
        model: Any network; it is not changed.
        replacements: Maps tensors of the network, compared by identity, to the tensors that the copy holds in
            their place. Shapes may differ.
    """
    memo: dict[int, object] = {id(old): new for old, new in (replacements or {}).items()}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)


def with_own_state(model: nn.Module) -> nn.Module:
    """Copy a network except its parameters, which both have: passes of the copy do not change the network."""
    return replica(model, {parameter: parameter for parameter in model.parameters()})


def refresh_masked_weights(model: nn.Module) -> None:
    """Recompute weights that hooks mask (``torch.nn.utils.prune``) or normalise, without a forward pass."""
    with torch.no_grad():
        for module in model.modules():
            for hook in module._forward_pre_hooks.values():
                if isinstance(hook, BasePruningMethod | WeightNorm):
                    hook(module, ())
