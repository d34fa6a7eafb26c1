"""CUDA graphs: the GPU work of a network, captured once and replayed as one launch.

A GPU computes the layers of a small network faster than Python launches them. A graph fixes shapes, memory
and every decision made in Python; only values change. So graphs are used where shapes are fixed. A network
that branches on values, or does not fit into memory twice, cannot be captured; it runs eagerly.

Shapes: B examples of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .precision import autocast

_WARM_UP = 3
"""Runs before a capture, in which libraries choose their kernels; torch's own default."""


def capture_graph(work: Callable[..., Any], *examples: Tensor) -> Callable[..., Any] | None:
    """Capture a function of tensors as a CUDA graph, without gradients.

    Args:
        work: The function. It runs several times, so repeated calls must do no harm.
        examples: Arguments with the shapes, data types and layouts of all later ones.

    Returns:
        A function that replays the graph; each call overwrites the outputs of the last one. None if the
        tensors are not on a GPU or the work cannot be captured.
    """
    if examples[0].device.type != "cuda":
        return None
    inputs = [example.clone() for example in examples]
    graph = torch.cuda.CUDAGraph()
    try:
        side_stream = torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            for _ in range(_WARM_UP):
                work(*inputs)
        torch.cuda.current_stream().wait_stream(side_stream)
        with torch.cuda.graph(graph):
            outputs = work(*inputs)
    except Exception:  # a real error is raised again when the work runs eagerly
        return None

    def replay(*arguments: Tensor) -> Any:
        for static, tensor in zip(inputs, arguments, strict=True):
            static.copy_(tensor)
        graph.replay()
        return outputs

    return replay


def capture_training_graph(
    model: nn.Module, example: Tensor, precision: str = "auto"
) -> Callable[[Tensor], Any]:
    """Capture a network's forward and backward pass, in its current mode.

    Args:
        model: The network. Capturing does not change it; its weights may later change in place.
        example: A batch (B, ...) with the shape, data type and layout of all later ones.
        precision: Data type of the passes, as for :func:`.autocast`.

    Returns:
        A function from a batch to the network's outputs, with gradients to its weights. The network itself on
        a CPU, or if it cannot be captured.
    """
    if example.device.type != "cuda":
        return model
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        with autocast(example.device, precision, cache=False):
            graphed = torch.cuda.make_graphed_callables(
                _Wrapper(model), (example.clone(),), num_warmup_iters=_WARM_UP, allow_unused_input=True
            )
        # Graphs are captured on a separate stream; torch would warn of that at the first replay.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        return graphed
    except Exception:  # a real error is raised again when the network runs eagerly
        return model
    finally:
        with torch.no_grad():
            for buffer, old in zip(model.buffers(), before, strict=True):
                buffer.copy_(old)


class _Wrapper(nn.Module):
    """Wrap a network, so that torch replaces the wrapper's ``forward`` and not the network's."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Any:
        """Run the network."""
        return self.model(inputs)
