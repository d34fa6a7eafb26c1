"""Trace a network: one forward pass per mode on a copy of it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ..modules.calls import as_inputs
from ..modules.copying import replica
from .network import TracedNetwork
from .propagation import Pin
from .solving import solve
from .tracer import Tracer


def trace(model: nn.Module, example: Tensor | tuple[Any, ...], *, pins: Iterable[Pin] = ()) -> TracedNetwork:
    """Find the filters of ``model`` that can be removed, and what has to be removed with each.

    The model is not changed. A float32 copy of it runs on the CPU, once in evaluation mode and once in
    training mode, which also runs auxiliary heads.

    Args:
        model: Any CNN.
        example: One input batch, or the tuple of the forward's positional arguments. At least two examples,
            as batch-norm cannot train on a single value per channel. Values do not matter.
        pins: Channels to keep, each with its cause.

    Returns:
        The prunable layers, the pinned ones with causes, and the cost as a function of kept counts.

    Raises:
        ValueError: If the model does not run on ``example``, or a pin names no parameter or axis of it.
    """
    inputs = as_inputs(example, torch.float32)
    copied = replica(model).cpu().float()
    tracer = Tracer(copied, batch_size=_batch_size(inputs))
    for pin in pins:
        tracer.propagation.keep(pin)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for training in (False, True):
            tracer.run(tree_map_only(Tensor, torch.clone, inputs), training=training)
    shape = tuple(example.shape[1:]) if isinstance(example, Tensor) else None
    return replace(solve(tracer.propagation.records, copied), input_shape=shape)


def _batch_size(inputs: tuple[Any, ...]) -> int:
    tensors = [x for x in tree_leaves(inputs) if isinstance(x, Tensor) and x.ndim]
    if not tensors or tensors[0].shape[0] < 2:
        given = f"of shape {tuple(tensors[0].shape)}" if tensors else "without a tensor"
        raise ValueError(f"the example is {given}; tracing needs a batch of at least two examples")
    return tensors[0].shape[0]
