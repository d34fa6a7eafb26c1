"""What a network costs: MACs, parameters and filters from kept counts, and measured latency.

Shapes: B candidates, L layers.
"""

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...rewards import Size
from ..tracing import TracedNetwork


@dataclass(frozen=True)
class Cost:
    """The size of one network.

    Args:
        macs: Multiply-accumulate operations of convolutions and matrix products for one example.
        params: Number of parameters.
        filters: Output channels of all layers that can be decided about.
    """

    macs: int
    params: int
    filters: int


def cost(network: TracedNetwork, kept: npt.ArrayLike | None = None) -> Cost:
    """Count a cut of ``network``.

    Args:
        network: A trace.
        kept: Kept filters of each layer, shape (L,); None for the dense network.
    """
    counts = network.widths if kept is None else np.asarray(kept)
    return Cost(
        macs=round(float(network.macs(counts))),
        params=round(float(network.params(counts))),
        filters=int(counts.sum()),
    )


def size_ratio(network: TracedNetwork, kept: npt.ArrayLike, size: Size) -> npt.NDArray[np.float64]:
    """Compare the size of cuts with the dense network.

    Args:
        network: A trace.
        kept: Kept filters of each layer, shape (..., L).
        size: What counts.

    Returns:
        Pruned / dense, shape (...); in [0, 1], but for latencies: an odd count can be slower than a full one.

    Raises:
        ValueError: If the latency counts and the network has no table of it.
    """
    counts = np.asarray(kept)
    if size == "filters":
        return np.asarray(counts.sum(axis=-1) / network.widths.sum())
    if size == "latency" and network.latency is None:
        raise ValueError(
            "the network has no latency; give it one with secateur.envs.cost.profiling.with_latency, "
            "or count filters, params or macs"
        )
    costs = {"params": network.params, "macs": network.macs, "latency": network.latency}[size]
    assert costs is not None
    return np.asarray(costs(counts) / costs(network.widths))


def latency_ms(
    model: nn.Module, example: Tensor, *, seconds: float = 0.5, threads: int | None = None
) -> float:
    """Measure one forward pass in evaluation mode.

    Args:
        model: Any network, on the device of ``example``.
        example: An input batch.
        seconds: How long to measure, > 0.
        threads: Of the processor; by default those that torch uses.

    Returns:
        Milliseconds a batch, of the fastest pass: other work on the machine only ever adds to it.
    """
    # Importing it imports torch's compiler helpers, which warn on stderr where CUDA's compiler is but no GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer

    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            timer = Timer(
                "model(x)",
                globals={"model": model, "x": example},
                num_threads=threads or torch.get_num_threads(),
            )
            times: list[float] = []
            # One pass each: in a block of passes, as in blocked_autorange, one that waited spoils the others.
            while sum(times) < seconds:
                times.append(timer.timeit(1).median)
            return min(times) * 1e3
    finally:
        model.train(training)
