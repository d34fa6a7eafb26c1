"""Measure how long a forward pass takes.

Shapes: M networks, R rounds.
"""

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..io.memory import is_out_of_memory
from ..io.user_code import with_place
from ..io.wording import counted
from ..modules.activations import require_memory_for
from ..modules.modes import restored_modes
from ..modules.reparametrization import with_plain_weights
from .config import LatencyConfig

Times = npt.NDArray[np.float64]

_ROUNDS, _PATIENCE = 5, 10
"""Smallest number of rounds, unless they take more than so many times the given time."""

_UNDISTURBED = 0.8
"""Share of a pass that its thread computes on an idle machine: 1.0, a little less where threads wait for each
other. With one other process per core it is below 0.5."""

_STEADY = 0.5
"""Largest distance of the quartiles of steady times, relative to the median."""

_THROUGHPUT_PIXELS = {"cpu": 2**18, "cuda": 2**22}
_THROUGHPUT_BATCH = {"cpu": 128, "cuda": 1024}
"""Most pixels and images of a batch: enough work for one core or one GPU, and a pass of ResNet-50 at 224x224
stays below a second."""


@dataclass(frozen=True)
class Timing:
    """The times of a network's passes.

    Args:
        batch: Number of examples in a pass.
        fastest_ms: Milliseconds of the fastest pass.
        quartiles_ms: Milliseconds: a quarter, a half, and three quarters of the passes took at most these.
        busy: Whether other work on the machine disturbed them: the thread waited for a core in most passes,
            or the times vary widely.
    """

    batch: int
    fastest_ms: float
    quartiles_ms: tuple[float, float, float]
    busy: bool

    @property
    def median_ms(self) -> float:
        """Median milliseconds of a pass."""
        return self.quartiles_ms[1]

    @property
    def images_per_second(self) -> float:
        """Examples per second in the median pass."""
        return 1000 * self.batch / self.median_ms


def time_passes(
    models: Sequence[nn.Module], example: Tensor, *, seconds: float = 0.5, threads: int | None = None
) -> list[Timing]:
    """Time forward passes in evaluation mode; the networks take turns, so that a change of speed meets all.

    Args:
        models: The networks, on the device of ``example``.
        example: An input batch.
        seconds: Duration for each network, > 0; a few passes are timed in any case.
        threads: Number of CPU threads; by default torch's current number.

    Returns:
        One timing per network.
    """
    threads_before = torch.get_num_threads()
    inputs = torch.empty_like(example)
    rounds: list[list[tuple[float, float]]] = []
    with restored_modes(nn.ModuleList(models)), torch.inference_mode():
        torch.set_num_threads(threads or threads_before)
        try:
            for model in models:
                model.eval()(inputs.copy_(example))  # the first pass chooses kernels and allocates memory
            begin, duration = time.perf_counter(), seconds * len(models)
            while (
                not rounds
                or (elapsed := time.perf_counter() - begin) < duration
                or (len(rounds) < _ROUNDS and elapsed < _PATIENCE * duration)
            ):
                order = models if len(rounds) % 2 == 0 else models[::-1]
                timed = [_time_pass(model, inputs.copy_(example)) for model in order]  # some edit their input
                rounds.append(timed if len(rounds) % 2 == 0 else timed[::-1])
        finally:
            torch.set_num_threads(threads_before)
    wall, own = np.moveaxis(np.array(rounds), 2, 0)  # (R, M) each, seconds
    return [_timing(len(example), wall[:, i], own[:, i], example.device) for i in range(len(models))]


def _time_pass(model: nn.Module, inputs: Tensor) -> tuple[float, float]:
    """Return the seconds of a pass on the clock, and those that this thread computed."""
    own, began = time.thread_time(), _settled_clock(inputs.device)
    model(inputs)
    ended = _settled_clock(inputs.device)
    return ended - began, time.thread_time() - own


def _timing(batch: int, wall: Times, own: Times, device: torch.device) -> Timing:
    low, median, high = (float(quartile) for quartile in np.quantile(wall, (0.25, 0.5, 0.75)) * 1e3)
    waited = device.type == "cpu" and bool(np.median(own / wall) < _UNDISTURBED)
    busy = waited or high - low > _STEADY * median
    return Timing(batch, float(wall.min()) * 1e3, (low, median, high), busy)


def latency_ms(
    model: nn.Module, example: Tensor, *, seconds: float = 0.5, threads: int | None = None
) -> float:
    """Measure one forward pass in evaluation mode; arguments as for :func:`time_passes`.

    Returns:
        Milliseconds per batch, of the fastest pass: other work on the machine can only make it slower.
    """
    return time_passes([model], example, seconds=seconds, threads=threads)[0].fastest_ms


def _settled_clock(device: torch.device) -> float:
    """Return the time in seconds after a device has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def timed_copy(model: nn.Module, shape: tuple[int, ...], config: LatencyConfig) -> tuple[nn.Module, Tensor]:
    """Copy a network to the device and data type of the measurement, and make a batch for it.

    The copy is the network as it ships: masks and reparametrisations are written into its weights.

    Args:
        model: Any network.
        shape: Shape of one example.
        config: Settings of the measurement.

    Raises:
        ValueError: If the network does not run on such a batch, or it does not fit in memory.
    """
    device = torch.device(config.device) if config.device else next(model.parameters()).device
    dtype = getattr(torch, config.dtype)
    placed = with_plain_weights(model).to(device, dtype).eval()
    require_memory_for(placed, shape, config.batch, "give a smaller --latency-batch")
    batch = torch.zeros(config.batch, *shape, device=device, dtype=dtype)
    try:
        with torch.inference_mode():
            placed(batch.clone())  # some networks edit their input
    except Exception as error:  # the network's code may raise anything
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"the network does not run on {counted(config.batch, 'example')} of {shape} in {config.dtype} "
            f"on {device} ({with_place(error)}); give another --latency-batch, --latency-dtype or "
            "--latency-device"
        ) from error
    return placed, batch


def measure_latency(model: nn.Module, shape: tuple[int, ...], config: LatencyConfig) -> float:
    """Measure the latency of a network.

    Args:
        model: Any network; it is copied.
        shape: Shape of one example.
        config: Settings of the measurement.

    Returns:
        Median milliseconds per batch.
    """
    return compare_speed([model], shape, config)[0].median_ms


def compare_speed(models: Sequence[nn.Module], shape: tuple[int, ...], config: LatencyConfig) -> list[Timing]:
    """Time networks that take turns.

    Args:
        models: Any networks; they are copied.
        shape: Shape of one example.
        config: Settings of the measurement.

    Returns:
        One timing per network.

    Raises:
        ValueError: If a network does not run on such a batch.
    """
    placed, batches = zip(*(timed_copy(model, shape, config) for model in models), strict=True)
    return time_passes(placed, batches[0], threads=config.threads)


def compare_throughput(
    models: Sequence[nn.Module],
    shape: tuple[int, ...],
    config: LatencyConfig,
    largest_batch: int | None = None,
) -> list[Timing]:
    """Time networks that take turns, with a batch that fills a core or a GPU; smaller if memory is short.

    Args:
        models: Any networks; they are copied.
        shape: Shape of one example.
        config: Settings of the measurement; the batch is at least its batch.
        largest_batch: Largest batch that the networks can process; None is any.

    Raises:
        ValueError: If a network does not run on such a batch.
    """
    device = torch.device(config.device) if config.device else next(models[0].parameters()).device
    kind = "cpu" if device.type == "cpu" else "cuda"
    images = min(_THROUGHPUT_BATCH[kind], _THROUGHPUT_PIXELS[kind] // math.prod(shape[1:])) or 1
    batch = max(config.batch, 2 ** int(math.log2(images)))
    batch = min(batch, largest_batch or batch)
    while True:
        try:
            return compare_speed(models, shape, dataclasses.replace(config, batch=batch))
        except RuntimeError as error:
            if not is_out_of_memory(error) or batch == 1:
                raise
        batch //= 2
