"""Trace a network: one forward pass per mode on a copy of it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ..modules.copying import replica
from .network import TracedNetwork
from .propagation import Pin
from .solving import solve
from .tracer import Tracer
from .tracked_int import track


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
    numbers = track(copied, model)
    tracer = Tracer(copied, batch_size=_batch_size(inputs))
    for pin in pins:
        tracer.propagation.keep(pin)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for training in (False, True):
            tracer.run(tree_map_only(Tensor, torch.clone, inputs), training=training)
    shape = tuple(example.shape[1:]) if isinstance(example, Tensor) else None
    return replace(solve(tracer.propagation.records, copied, numbers), input_shape=shape)


def as_inputs(example: Tensor | tuple[Any, ...], dtype: torch.dtype) -> tuple[Any, ...]:
    """Convert an example to positional arguments on the CPU, floating-point tensors in ``dtype``.

    Raises:
        ValueError: If there is no tensor in it, such as in the shape of an input.
    """
    if not any(isinstance(leaf, Tensor) for leaf in tree_leaves(example)):
        raise ValueError(f"the example is {_named(example)}; give a batch of inputs, a tensor{_of(example)}")

    def convert(x: Tensor) -> Tensor:
        x = x.detach().cpu()
        return x.to(dtype) if x.is_floating_point() else x

    arguments = example if isinstance(example, tuple) else (example,)
    return tuple(tree_map_only(Tensor, convert, argument) for argument in arguments)


def _named(example: Any) -> str:
    return f"the shape {tuple(example)}" if _is_shape(example) else type(example).__name__


def _of(example: Any) -> str:
    """Say which shape a batch has if the shape of an image, or of a batch, was given instead."""
    if not _is_shape(example):
        return ""
    batch = (2,) if len(example) == 3 else ()
    return f" of shape {(*batch, *example)}"


def _is_shape(example: Any) -> bool:
    return isinstance(example, (tuple, list)) and all(isinstance(side, int) for side in example)


def _batch_size(inputs: tuple[Any, ...]) -> int:
    tensors = [x for x in tree_leaves(inputs) if isinstance(x, Tensor) and x.ndim]
    if not tensors or tensors[0].shape[0] < 2:
        given = f"of shape {tuple(tensors[0].shape)}" if tensors else "without a tensor"
        raise ValueError(f"the example is {given}; tracing needs a batch of at least two examples")
    return tensors[0].shape[0]
