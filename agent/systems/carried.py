"""Numbers of a system that change while a network trains, and have to be in its checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn

_PREFIX = "secateur_"
"""Before the names of buffers, so that none of a network's own is meant."""


@contextlib.contextmanager
def carried(model: nn.Module, **numbers: Tensor) -> Iterator[dict[str, Tensor]]:
    """Let a network hold tensors as buffers, for as long as the context lasts.

    So a training that is resumed goes on with their values. Change them in place alone.

    Args:
        model: The network.
        **numbers: The tensors by name, with their first values.

    Yields:
        The tensors by name.
    """
    device = next(model.parameters()).device
    held = {name: tensor.to(device) for name, tensor in numbers.items()}
    for name, tensor in held.items():
        model.register_buffer(_PREFIX + name, tensor)
    try:
        yield held
    finally:
        for name in held:
            del model._buffers[_PREFIX + name]
