"""Masks of whole filters: the network computes, in training too, what the cut one will.

Shapes: L layers, N filters of a layer; each mask has the shape of its parameter; True stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..surgery.plan import Mask
from ..tracing import TracedNetwork
from .masks import keep_masks, masked_weights


def filter_masks(model: nn.Module, network: TracedNetwork, masks: Sequence[Mask]) -> dict[str, Tensor]:
    """Return masks of all parameter entries that go with filters, for :func:`.apply_masks`.

    Biases, norms and the consumers' weights are among them. So nothing of a removed filter reaches the
    output, and no entry of it has a gradient; its batch-norm statistics change, and do not matter.

    Args:
        model: The network, masked or not.
        network: The trace of the network without masks.
        masks: One keep mask (N,) per layer, in the order of ``network.layers``.

    Returns:
        Masks of all parameters that pruning can touch, the same ones whatever is removed. A parameter that
        modules share has one for each of its names.
    """
    shapes = {_plain(name): tensor for name, tensor in model.named_parameters(remove_duplicate=False)}
    found: dict[Tensor, Tensor] = {}
    for layer, mask in zip(network.layers, masks, strict=True):
        for slice_ in layer.slices:
            if slice_.parameter in shapes:
                tensor = shapes[slice_.parameter]
                kept = found.setdefault(tensor, torch.ones_like(tensor, dtype=torch.bool))
                gone = torch.from_numpy(slice_.index[~mask].ravel()).to(tensor.device)
                kept.index_fill_(slice_.axis, gone, False)
    return {name: found[tensor] for name, tensor in shapes.items() if tensor in found}


def kept_filters(model: nn.Module, network: TracedNetwork) -> list[Mask]:
    """Return the filters that the masks of :func:`filter_masks` keep, one keep mask (N,) per layer."""
    masks, found = keep_masks(model), []
    for layer in network.layers:
        mask = np.ones(layer.filters, np.bool_)
        slice_ = next((s for s in layer.slices if s.parameter in masks), None)
        if slice_ is not None:  # a kept filter has entries that stay, as each layer keeps at least one filter
            entries = masks[slice_.parameter].movedim(slice_.axis, 0)
            kept = entries.reshape(len(entries), -1).any(1).cpu().numpy()
            mask = np.logical_or.reduce(kept[slice_.index], axis=1)
        found.append(mask)
    return found


def unmasked_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a network as if it had no masks, with the values that masks hide.

    Returns:
        Tensors of the network itself, for ``load_state_dict`` of one without masks.
    """
    masked = {name for name, _, _ in masked_weights(model, remove_duplicate=False)}
    state = model.state_dict()
    for name in masked:
        del state[f"{name}_mask"]
    return {_plain(name) if _plain(name) in masked else name: tensor for name, tensor in state.items()}


def _plain(name: str) -> str:
    """Return the name that a parameter has without a mask."""
    return name.removesuffix("_orig")
