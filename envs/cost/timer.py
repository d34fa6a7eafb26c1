"""How long a forward pass takes."""

import logging

import torch
from torch import Tensor, nn


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
