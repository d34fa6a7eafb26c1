"""Numbers that are none: noticed before they reach the weights, and traced to where they begin."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..io.tensor_files import is_finite
from .inputs import run_on_copy
from .precision import autocast


@contextlib.contextmanager
def explain_nonfinite(model: nn.Module, inputs: Tensor, when: str, advice: str) -> Iterator[None]:
    """Complete a ``FloatingPointError`` of a training step, and leave the network as it was before the step.

    Args:
        model: The network; its weights have not been changed when the error is raised, its batch-norm
            statistics may have been, and are put back.
        inputs: The batch.
        when: Such as ``epoch 1, step 3 of 10``.
        advice: What to do.

    Raises:
        FloatingPointError: With the layer where numbers stop being finite.
    """
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    except FloatingPointError as error:
        try:
            where = first_nonfinite(model, inputs)
        finally:
            for buffer, old in zip(model.buffers(), before, strict=True):
                buffer.copy_(old)
        raise FloatingPointError(f"{error} in {when}, {where}: {advice}") from error


def check_gradient(model: nn.Module) -> None:
    """Refuse a gradient that would leave weights that are no numbers.

    Raises:
        FloatingPointError: If its norm is infinite or undefined.
    """
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(gradients))
    if not math.isfinite(norm):
        raise FloatingPointError(f"the norm of the gradient became {norm}")


@torch.no_grad()
def first_nonfinite(model: nn.Module, inputs: Tensor) -> str:
    """Say in which layer numbers begin to be infinite or undefined.

    Going forward that is the first one with such weights or such an answer; if there is none, going backward
    the first one with such a gradient.

    Args:
        model: The network, in the mode in which they appeared; it runs once more.
        inputs: The batch on which they appeared.
    """
    if not is_finite(inputs):
        return "first in the images"
    forward: list[str] = []
    backward: list[str] = []

    def look(name: str, module: nn.Module, outputs: Any) -> None:
        own = list(module.parameters(recurse=False))
        slopes = [weight.grad for weight in own if weight.grad is not None]
        for kind, tensors in (("weights", own), ("output", _tensors(outputs))):
            if not all(map(is_finite, tensors)):
                forward.append(f"first in the {kind} of {name or 'the network itself'}")
        if not all(map(is_finite, slopes)):
            backward.append(f"first in the gradient of {name or 'the network itself'}")

    hooks = [
        module.register_forward_hook(lambda module, _, outputs, name=name: look(name, module, outputs))
        for name, module in model.named_modules()
    ]
    try:
        with torch.random.fork_rng(), autocast(inputs.device):
            run_on_copy(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return [*forward, *reversed(backward), "though every layer's weights and answers are finite"][0]


def _tensors(outputs: Any) -> list[Tensor]:
    several = outputs.values() if isinstance(outputs, Mapping) else outputs
    several = several if isinstance(outputs, Mapping | tuple | list) else [outputs]
    return [tensor for tensor in several if isinstance(tensor, Tensor) and tensor.is_floating_point()]
