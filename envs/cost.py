"""What a network costs: MACs, parameters and filters from kept counts, and measured latency.

Shapes: B candidates, L layers.
"""

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..rewards import Size
from .tracing import TracedNetwork


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
        size: What counts. Latency is not a function of kept counts alone; MACs stand in for it.

    Returns:
        Pruned / dense, in [0, 1], shape (...).
    """
    counts = np.asarray(kept)
    if size == "filters":
        return np.asarray(counts.sum(axis=-1) / network.widths.sum())
    products = network.params if size == "params" else network.macs
    return np.asarray(products(counts) / products(network.widths))


def latency_ms(model: nn.Module, example: Tensor, *, seconds: float = 0.5) -> float:
    """Measure one forward pass in evaluation mode.

    Args:
        model: Any network, on the device of ``example``.
        example: An input batch.
        seconds: How long to measure; the median of the runs is given.

    Returns:
        Milliseconds a batch, the median.
    """
    # Importing it imports torch's compiler helpers, which warn on stderr where CUDA's compiler is but no GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer

    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            timer = Timer(
                "model(x)", globals={"model": model, "x": example}, num_threads=torch.get_num_threads()
            )
            return float(timer.blocked_autorange(min_run_time=seconds).median * 1e3)
    finally:
        model.train(training)
