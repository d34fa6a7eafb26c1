"""Infinite and undefined numbers: detected before they reach the weights, and traced to the first layer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..io.tensor_files import is_finite
from .inputs import run_on_copy
from .precision import autocast


@contextlib.contextmanager
def explain_nonfinite(
    model: nn.Module,
    inputs: Tensor,
    when: str,
    advice: str,
    run: Callable[[Tensor], Any] | None = None,
    precision: str = "auto",
) -> Iterator[None]:
    """Add the layer and the advice to a ``FloatingPointError`` of a training step.

    The error is raised before the step changes weights; the forward pass may have changed batch-norm
    statistics, which are restored.

    Args:
        model: The network in training.
        inputs: The batch of the step.
        when: The step in words, such as ``epoch 1, step 3 of 10``.
        advice: What the user can do, for the message.
        run: Runs the network on a batch, for one that needs more than it; None runs it on the batch alone.
        precision: Data type of the step's passes, as for :func:`.autocast`.

    Raises:
        FloatingPointError: If the step raised one; the message names the first layer that is not finite.
    """
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    except FloatingPointError as error:
        try:
            where = first_nonfinite(model, inputs, run, precision)
        finally:
            for buffer, old in zip(model.buffers(), before, strict=True):
                buffer.copy_(old)
        raise FloatingPointError(f"{error} in {when}, {where}: {advice}") from error


def gradient_norm(model: nn.Module) -> Tensor:
    """Return the norm of the gradient of all parameters, a scalar."""
    return torch.nn.utils.get_total_norm([w.grad for w in model.parameters() if w.grad is not None])


@torch.no_grad()
def first_nonfinite(
    model: nn.Module, inputs: Tensor, run: Callable[[Tensor], Any] | None = None, precision: str = "auto"
) -> str:
    """Name the layer in which infinite or undefined numbers appear first.

    That is the first layer of the forward pass with such weights or outputs. If there is none, it is the
    first layer of the backward pass with such a gradient.

    Args:
        model: The network, in the mode in which the numbers appeared; it runs once more.
        inputs: The batch on which the numbers appeared.
        run: As for :func:`explain_nonfinite`.
        precision: Data type of the passes, as for :func:`.autocast`.
    """
    if not is_finite(inputs):
        return "first in the images"
    forward: list[str] = []
    backward: list[str] = []

    def check(name: str, module: nn.Module, outputs: Any) -> None:
        weights = list(module.parameters(recurse=False))
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        for kind, tensors in (("weights", weights), ("output", _tensors(outputs))):
            if not all(map(is_finite, tensors)):
                forward.append(f"first in the {kind} of {name or 'the network itself'}")
        if not all(map(is_finite, gradients)):
            backward.append(f"first in the gradient of {name or 'the network itself'}")

    hooks = [
        module.register_forward_hook(lambda module, _, outputs, name=name: check(name, module, outputs))
        for name, module in model.named_modules()
    ]
    try:
        with torch.random.fork_rng(), autocast(inputs.device, precision):
            run_on_copy(run or model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return [*forward, *reversed(backward), "though every layer's weights and outputs are finite"][0]


def _tensors(outputs: Any) -> list[Tensor]:
    values = outputs.values() if isinstance(outputs, Mapping) else outputs
    values = values if isinstance(outputs, Mapping | tuple | list) else [outputs]
    return [tensor for tensor in values if isinstance(tensor, Tensor) and tensor.is_floating_point()]
