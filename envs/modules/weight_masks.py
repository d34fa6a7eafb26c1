"""Weights masked by ``torch.nn.utils.prune``, found in a network, and written into it."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.utils import prune


def masked_weights(
    model: nn.Module, *, remove_duplicate: bool = True
) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield the dense name of each masked weight, its module, and its name there.

    Args:
        model: A network.
        remove_duplicate: Whether a module that has several names is yielded once.
    """
    for path, module in model.named_modules(remove_duplicate=remove_duplicate):
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, prune.BasePruningMethod):
                own = hook._tensor_name
                yield f"{path}.{own}" if path else own, module, own


def remove_masks(model: nn.Module) -> nn.Module:
    """Write masked weights into the network as plain ones, with zeros, in place; return it."""
    for _, module, own in list(masked_weights(model)):
        prune.remove(module, own)
    return model
