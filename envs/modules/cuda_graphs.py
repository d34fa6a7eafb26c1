"""The GPU work of a network, recorded once and replayed as one launch (CUDA graphs).

A GPU computes a small network's layers faster than Python launches them one by one. A recording keeps shapes,
memory and everything that Python decided; only numbers change. So it is made where shapes are fixed, and
where a network looks at numbers on its way, or memory is short, it is not: the network then runs as ever.

Shapes: B examples of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .precision import autocast

_WARM_UP = 3
"""Runs before a recording, in which libraries choose their kernels: as many as torch itself takes."""


def capture_graph(work: Callable[..., Any], *examples: Tensor) -> Callable[..., Any] | None:
    """Record what a function does on the GPU, without gradients.

    Args:
        work: The function, of tensors; what it does more than once does no harm.
        examples: Tensors like all later ones: of the same shapes, types and layouts.

    Returns:
        What does the same work. What it gives back is overwritten when it is called again. None if the
        tensors are not on a GPU or the work cannot be recorded.
    """
    if examples[0].device.type != "cuda":
        return None
    inputs = [example.clone() for example in examples]
    graph = torch.cuda.CUDAGraph()
    try:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                work(*inputs)
        torch.cuda.current_stream().wait_stream(aside)
        with torch.cuda.graph(graph):
            outputs = work(*inputs)
    except Exception:  # whatever it was, it comes again where the work is done as ever
        return None

    def replay(*given: Tensor) -> Any:
        for static, tensor in zip(inputs, given, strict=True):
            static.copy_(tensor)
        graph.replay()
        return outputs

    return replay


def capture_training_graph(model: nn.Module, example: Tensor) -> Callable[[Tensor], Any]:
    """Record a network's forward and backward pass, in the mode that it is in.

    Args:
        model: The network; its weights may change later, in place. It is left as it is.
        example: A batch (B, ...) like all later ones.

    Returns:
        What gives the network's outputs, with gradients to its weights; the network itself on a CPU and where
        it cannot be recorded.
    """
    if example.device.type != "cuda":
        return model
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        with autocast(example.device, cache=False):
            running = torch.cuda.make_graphed_callables(
                _Whole(model), (example.clone(),), num_warmup_iters=_WARM_UP, allow_unused_input=True
            )
        # Recordings are made on a stream of their own, which torch would warn of at the first replay.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        return running
    except Exception:  # whatever it was, it comes again where the network runs as ever
        return model
    finally:
        with torch.no_grad():
            for buffer, old in zip(model.buffers(), before, strict=True):
                buffer.copy_(old)


class _Whole(nn.Module):
    """Hold a network, so that the ``forward`` that torch replaces is not the network's own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Any:
        """Run the network."""
        return self.model(inputs)
