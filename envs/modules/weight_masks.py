"""Weights masked by ``torch.nn.utils.prune``, found in a network, and written into it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
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


@contextlib.contextmanager
def masked_each_pass(model: nn.Module) -> Iterator[None]:
    """Mask all weights at the beginning of each pass of a network, for as long as the context lasts.

    torch masks a weight when its module is called. Some networks read it without a call, such as
    ``nn.MultiheadAttention`` that of its ``out_proj``; they would compute with the weight of an earlier pass.
    """
    if next(masked_weights(model), None) is None:
        yield
        return
    handle = model.register_forward_pre_hook(_mask_weights, prepend=True)
    try:
        yield
    finally:
        handle.remove()
        with torch.no_grad():
            _mask_weights(model)


def _mask_weights(model: nn.Module, *_: object) -> None:
    """Compute all masked weights from those that are trained."""
    for module in model.modules():
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, prune.BasePruningMethod):
                hook(module, ())


def remove_masks(model: nn.Module) -> nn.Module:
    """Write masked weights into the network as plain ones, with zeros, in place; return it."""
    for _, module, own in list(masked_weights(model)):
        prune.remove(module, own)
    return model
