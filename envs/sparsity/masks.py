"""Masks over single weights, held by ``torch.nn.utils.prune``.

A masked weight is a parameter ``weight_orig``, a buffer ``weight_mask`` and a hook that multiplies them
before each pass. So masks survive training, optimisers, checkpoints and saving, and a network that torch's
own functions have pruned is one with masks.

Shapes: each mask has the shape of its weight; True stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from ..modules.weight_masks import masked_weights as masked_weights
from ..modules.weight_masks import remove_masks as remove_masks

Masks: TypeAlias = Mapping[str, Tensor]
"""Keep masks by the name of the weight in the dense network, such as ``conv1.weight``; bool, True stays."""


class _StraightThrough(prune.CustomFromMask):
    """Mask a weight, and let its gradient reach the removed entries, too.

    So they keep learning, and may come back (Guo et al. 2016, arXiv 1608.04493, eq. 3).
    """

    def apply_mask(self, module: nn.Module) -> Tensor:
        """Return the masked weight; its gradient is that of all entries."""
        original: Tensor = getattr(module, f"{self._tensor_name}_orig")
        mask: Tensor = getattr(module, f"{self._tensor_name}_mask")
        return original + (original * mask - original).detach()


def apply_masks(model: nn.Module, masks: Masks, *, straight_through: bool = False) -> None:
    """Mask weights of a network in place.

    Args:
        model: A network; weights that have a mask get the new one.
        masks: The masks. A weight that modules share has the same mask in all of them.
        straight_through: Whether removed entries keep learning, so that they can come back; else they have no
            gradient.

    Raises:
        ValueError: If the network has no such weight, it is no parameter, or a mask has another shape.
    """
    method = _StraightThrough if straight_through else prune.CustomFromMask
    for name, mask in _of_all_names(model, masks).items():
        module, own = _owner(model, name)
        if own not in module._parameters and f"{own}_mask" not in module._buffers:
            raise ValueError(
                f"{name} is computed from other parameters, as by spectral normalisation, and cannot have a "
                "mask; make it a plain weight first, as torch's remove_parametrizations does"
            )
        weight: Tensor = getattr(module, f"{own}_orig", getattr(module, own))
        if weight.shape != mask.shape:
            raise ValueError(f"the mask of {name} is {tuple(mask.shape)}, the weight {tuple(weight.shape)}")
        mask = mask.to(weight.device, torch.bool)
        if hasattr(module, f"{own}_orig"):
            _unmask(module, own)
        method.apply(module, own, mask)
        setattr(module, f"{own}_mask", mask.clone())  # torch would hold it as numbers of the weight's type


def set_masks(model: nn.Module, masks: Masks) -> None:
    """Change masks that a network has, in place; optimisers and hooks stay as they are.

    Raises:
        ValueError: If one of the weights has no mask.
    """
    for name, mask in _of_all_names(model, masks).items():
        module, own = _owner(model, name)
        held = module._buffers.get(f"{own}_mask")
        if held is None:
            raise ValueError(f"{name} has no mask; give it one with apply_masks")
        held.copy_(mask)


def keep_masks(model: nn.Module) -> dict[str, Tensor]:
    """Return the masks of a network, also those of ``torch.nn.utils.prune``; empty if it has none."""
    return {
        name: getattr(module, f"{own}_mask").detach().bool().clone()
        for name, module, own in masked_weights(model)
    }


def sparsity(model: nn.Module) -> float:
    """Return the share of zeros among the weights of convolutions and linear layers, in [0, 1]."""
    weights = [weight.detach() for weight in prunable_weights(model).values()]
    total = sum(weight.numel() for weight in weights)
    return sum(int((weight == 0).sum()) for weight in weights) / max(1, total)


def prunable_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights that are counted and pruned, by their dense names; as they are, so masked.

    These are the weights of convolutions and linear layers. Biases and norms are few, and stay. A weight that
    modules share is there once, by its first name.
    """
    found, seen = {}, set()
    for path, module in model.named_modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            weight = _parameter(module, "weight")
            if weight is None or weight not in seen:
                found[f"{path}.weight" if path else "weight"] = _current(module)
                seen.add(weight)
    return found


def _parameter(module: nn.Module, own: str) -> nn.Parameter | None:
    """Return what is trained of a weight, masked or not; None if it is computed from other parameters."""
    plain = module._parameters.get(own)
    return module._parameters.get(f"{own}_orig") if plain is None else plain


def _of_all_names(model: nn.Module, masks: Masks) -> dict[str, Tensor]:
    """Add the other names of weights that modules share, with the same masks."""
    given: dict[nn.Parameter, Tensor] = {}
    for name, mask in masks.items():
        if (weight := _parameter(*_owner(model, name))) is not None:
            given.setdefault(weight, mask)
    found = dict(masks)
    for path, module in model.named_modules():
        for key, weight in module._parameters.items():
            name = f"{path}.{key}".removeprefix(".").removesuffix("_orig")
            if weight in given:
                found.setdefault(name, given[weight])
    return found


def _current(module: nn.Module) -> Tensor:
    """Return a weight as the next pass will see it; ``module.weight`` is as the last pass saw it."""
    original, mask = module._parameters.get("weight_orig"), module._buffers.get("weight_mask")
    weight: Tensor = getattr(module, "weight")  # noqa: B009, as mypy takes any attribute for a module
    return weight if original is None or mask is None else original * mask


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, own = name.rpartition(".")
    try:
        module = model.get_submodule(path)
        getattr(module, own)
    except AttributeError as error:
        raise ValueError(f"the network has no weight {name!r}") from error
    return module, own


def _unmask(module: nn.Module, own: str) -> None:
    """Take a mask off, without zeroing what it had removed."""
    original = getattr(module, f"{own}_orig")
    for key, hook in list(module._forward_pre_hooks.items()):
        if isinstance(hook, prune.BasePruningMethod) and hook._tensor_name == own:
            del module._forward_pre_hooks[key]
    delattr(module, own)
    del module._parameters[f"{own}_orig"], module._buffers[f"{own}_mask"]
    module.register_parameter(own, original)
