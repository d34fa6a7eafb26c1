"""Measure how long a forward pass takes."""

import time

import torch
from torch import Tensor, nn

from ..io.memory import is_out_of_memory
from ..modules.activations import require_memory_for
from ..modules.copying import replica
from ..modules.modes import restored_modes
from .config import LatencyConfig


def latency_ms(
    model: nn.Module, example: Tensor, *, seconds: float = 0.5, threads: int | None = None
) -> float:
    """Measure one forward pass in evaluation mode.

    Args:
        model: Any network, on the device of ``example``.
        example: An input batch.
        seconds: Duration of the measurement, > 0; at least one pass is measured.
        threads: Number of CPU threads; by default torch's current number.

    Returns:
        Milliseconds per batch, of the fastest pass: other work on the machine can only make it slower.
    """
    threads_before = torch.get_num_threads()
    inputs = torch.empty_like(example)
    times: list[float] = []
    with restored_modes(model), torch.inference_mode():
        model.eval()
        torch.set_num_threads(threads or threads_before)
        try:
            model(inputs.copy_(example))  # the first pass chooses kernels and allocates memory
            end = time.perf_counter() + seconds
            while not times or time.perf_counter() < end:
                inputs.copy_(example)  # some networks edit their input
                began = _settled_clock(example.device)
                model(inputs)
                times.append(_settled_clock(example.device) - began)
        finally:
            torch.set_num_threads(threads_before)
    return min(times) * 1e3


def _settled_clock(device: torch.device) -> float:
    """Return the time in seconds after a device has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def timed_copy(model: nn.Module, shape: tuple[int, ...], config: LatencyConfig) -> tuple[nn.Module, Tensor]:
    """Copy a network to the device and data type of the measurement, and make a batch for it.

    Args:
        model: Any network.
        shape: Shape of one example.
        config: Settings of the measurement.

    Raises:
        ValueError: If the network does not run on such a batch, or it does not fit in memory.
    """
    device = torch.device(config.device) if config.device else next(model.parameters()).device
    dtype = getattr(torch, config.dtype)
    placed = replica(model).to(device, dtype).eval()
    require_memory_for(placed, shape, config.batch, "give a smaller --latency-batch")
    batch = torch.zeros(config.batch, *shape, device=device, dtype=dtype)
    try:
        with torch.inference_mode():
            placed(batch.clone())  # some networks edit their input
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
