"""Foresee whether a forward pass fits in memory, before anything is allocated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..io.memory import require_memory
from ..io.wording import counted
from .copying import on_meta, replica


def require_memory_for(model: nn.Module, shape: tuple[int, ...], batch: int, remedy: str) -> None:
    """Check that a forward pass on the CPU fits in memory.

    Refuses only what certainly does not fit: more memory than one operation needs is not counted, and nothing
    is known of a network that does not run on the meta device.

    Args:
        model: The network; it is not changed.
        shape: Shape of one example.
        batch: Number of examples.
        remedy: What the user can do, for the message.

    Raises:
        ValueError: If less memory is available.
    """
    tensors = [*model.parameters(), *model.buffers()]
    if all(tensor.device.type == "cpu" for tensor in tensors):
        size = "x".join(map(str, shape))
        needed = _largest_operation(model, tensors, shape, batch)
        require_memory(needed, f"the activations of {counted(batch, 'input')} of {size}", remedy)


def _largest_operation(model: nn.Module, tensors: list[Tensor], shape: tuple[int, ...], batch: int) -> int:
    """Return the most bytes that the tensors of one operation take, without a CPU's memory."""
    inputs = torch.zeros(batch, *shape, device="meta")
    with torch.random.fork_rng(devices=[]), _Sizes() as sizes, torch.no_grad():
        try:
            placed = {tensor: on_meta(tensor) for tensor in tensors}
            replica(model, placed).eval()(inputs)
        except Exception:  # as where the network reads the value of a tensor
            pass
    return max(sizes.largest, inputs.nbytes)


class _Sizes(TorchDispatchMode):
    """Record the bytes of the largest operation: of its inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        leaves = [leaf for leaf in tree_leaves((args, outputs)) if isinstance(leaf, Tensor)]
        # Of storages, as views share them, and expanded tensors take less memory than they have numbers.
        storages = {leaf.untyped_storage()._cdata: leaf.untyped_storage() for leaf in leaves}
        self.largest = max(self.largest, sum(storage.nbytes() for storage in storages.values()))
        return outputs
