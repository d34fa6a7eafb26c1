"""Trace a network: one forward pass a mode on a copy of it."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ..modules.copying import copy_model
from .network import TracedNetwork
from .propagation import Pin
from .solving import solve
from .tracer import Tracer


def trace(model: nn.Module, example: Tensor | tuple[Any, ...], *, pins: Iterable[Pin] = ()) -> TracedNetwork:
    """Find which filters of ``model`` can go, and what goes with each.

    The model itself is not touched: a float32 copy of it runs on the CPU, once in evaluation and once in
    training mode, so that auxiliary heads are seen.

    Args:
        model: Any CNN.
        example: One input batch or the tuple of the forward's positional arguments; at least two examples,
            else batch-norm refuses to train on a 1x1 image. Values do not matter.
        pins: What to keep by decree, each with its cause.

    Returns:
        The layers to decide about, what is pinned and why, and the cost as a function of kept filters.

    Raises:
        ValueError: If the model cannot run on ``example``, or a pin names nothing.
    """
    inputs = as_inputs(example, torch.float32)
    copied = copy_model(model).cpu().float()
    tracer = Tracer(copied, batch_size=_batch_size(inputs))
    for pin in pins:
        tracer.propagation.keep(pin)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for training in (False, True):
            tracer.run(tree_map_only(Tensor, torch.clone, inputs), training=training)
    return solve(tracer.propagation.records, copied)


def as_inputs(example: Tensor | tuple[Any, ...], dtype: torch.dtype) -> tuple[Any, ...]:
    """Give an example as positional arguments on the CPU, floating-point ones in ``dtype``."""

    def convert(x: Tensor) -> Tensor:
        x = x.detach().cpu()
        return x.to(dtype) if x.is_floating_point() else x

    arguments = example if isinstance(example, tuple) else (example,)
    return tuple(tree_map_only(Tensor, convert, argument) for argument in arguments)


def _batch_size(inputs: tuple[Any, ...]) -> int:
    tensors = [x for x in tree_leaves(inputs) if isinstance(x, Tensor) and x.ndim]
    if not tensors or tensors[0].shape[0] < 2:
        given = f"of shape {tuple(tensors[0].shape)}" if tensors else "without a tensor"
        raise ValueError(f"the example is {given}; tracing needs a batch of at least two examples")
    return tensors[0].shape[0]
