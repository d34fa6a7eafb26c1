"""Measure how long a forward pass takes."""

import logging

import torch
from torch import Tensor, nn

from ..io.memory import is_out_of_memory
from ..modules.copying import copy_model
from .config import LatencyConfig


def latency_ms(
    model: nn.Module, example: Tensor, *, seconds: float = 0.5, threads: int | None = None
) -> float:
    """Measure one forward pass in evaluation mode.

    Args:
        model: Any network, on the device of ``example``.
        example: An input batch.
        seconds: Duration of the measurement, > 0.
        threads: Number of CPU threads; by default torch's current number.

    Returns:
        Milliseconds per batch, of the fastest pass: other work on the machine can only make it slower.
    """
    # This import loads torch's compiler helpers, which warn on stderr on machines with nvcc but no GPU.
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
            # One pass each: in a block of passes, as in blocked_autorange, one delayed pass spoils the block.
            while sum(times) < seconds:
                times.append(timer.timeit(1).median)
            return min(times) * 1e3
    finally:
        model.train(training)


def timed_copy(model: nn.Module, shape: tuple[int, ...], config: LatencyConfig) -> tuple[nn.Module, Tensor]:
    """Copy a network to the device and data type of the measurement, and make a batch for it.

    Args:
        model: Any network.
        shape: Shape of one example.
        config: Settings of the measurement.

    Raises:
        ValueError: If the network does not run on such a batch.
    """
    device = torch.device(config.device) if config.device else next(model.parameters()).device
    dtype = getattr(torch, config.dtype)
    placed = copy_model(model).to(device, dtype).eval()
    batch = torch.zeros(config.batch, *shape, device=device, dtype=dtype)
    try:
        with torch.inference_mode():
            placed(batch)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"the network does not run on {config.batch} examples of {shape} in {config.dtype} on {device}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return placed, batch


def measure_latency(model: nn.Module, shape: tuple[int, ...], config: LatencyConfig) -> float:
    """Measure the latency of a network.

    Args:
        model: Any network; it is copied.
        shape: Shape of one example.
        config: Settings of the measurement.

    Returns:
        Milliseconds per batch; see :func:`.latency_ms`.
    """
    placed, batch = timed_copy(model, shape, config)
    return latency_ms(placed, batch, threads=config.threads)
