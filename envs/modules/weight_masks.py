"""Weights masked by ``torch.nn.utils.prune``, found in a network."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.utils.prune import BasePruningMethod


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
            if isinstance(hook, BasePruningMethod):
                own = hook._tensor_name
                yield f"{path}.{own}" if path else own, module, own
