"""Compilation of a network for training with ``torch.compile``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..io.memory import is_out_of_memory
from ..io.untrusted import first_line
from .precision import autocast
from .structures import tensors_in


def compiled_for_training(
    model: nn.Module, example: Tensor, precision: str = "auto"
) -> Callable[[Tensor], Any]:
    """Compile a network's forward and backward pass, in its current mode.

    Args:
        model: The network; compiling does not change it.
        example: A batch (B, ...) with the shape, data type and layout of all later ones.
        precision: Data type of the passes, as for :func:`.autocast`.

    Returns:
        A function from a batch to the network's outputs. The network itself, with a warning, if it cannot be
        compiled.
    """
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        run: Callable[[Tensor], Any] = torch.compile(model, dynamic=False)
        with torch.random.fork_rng(), torch.enable_grad():
            with autocast(example.device, precision):
                outputs = run(example.clone())
            weights = [weight for weight in model.parameters() if weight.requires_grad]
            total = sum(each.float().sum() for each in tensors_in(outputs) if each.requires_grad)
            torch.autograd.grad(total, weights, allow_unused=True)  # type: ignore[arg-type]
        return run
    except Exception as error:  # the compiler may raise anything
        if is_out_of_memory(error):
            raise
        said = f"{type(error).__name__}: {first_line(error)}"
        warnings.warn(f"torch.compile fails, so the network runs uncompiled ({said})", stacklevel=2)
        return model
    finally:
        with torch.no_grad():
            for buffer, old in zip(model.buffers(), before, strict=True):
                buffer.copy_(old)
