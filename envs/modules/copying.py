"""Copies of networks to experiment on."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod


def copy_model(model: nn.Module, instead: Mapping[Tensor, Tensor] | None = None) -> nn.Module:
    """Copy a network, its hooks and shared parameters included.

    ``copy.deepcopy`` refuses tensors that were computed from parameters, which ``torch.nn.utils.prune`` and
    the older ``weight_norm`` leave in a module's attributes; those are copied by value.

    Args:
        model: Any network; it is left as it is.
        instead: What the copy holds in place of some of the network's tensors, of any shape. Tensors are told
            apart by identity.
    """
    memo: dict[int, object] = {id(old): new for old, new in (instead or {}).items()}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)


def refresh_masked_weights(model: nn.Module) -> None:
    """Recompute the weights that masks of ``torch.nn.utils.prune`` give, without a forward pass."""
    with torch.no_grad():
        for module in model.modules():
            for hook in module._forward_pre_hooks.values():
                if isinstance(hook, BasePruningMethod):
                    hook(module, ())
