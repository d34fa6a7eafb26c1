"""The random numbers that networks draw: from torch, from NumPy and from Python's ``random``."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


@contextlib.contextmanager
def fixed_randomness(seed: int = 0, *, device: torch.device | None = None) -> Iterator[None]:
    """Seed all global generators, and restore them on exit.

    Passes of one network then draw the same numbers, such as for the layers that a stochastic depth skips.
    ``numpy.random.default_rng()`` without a seed gives a seeded generator, too. Generators that the network
    holds itself are copied with it.

    Args:
        seed: The seed, at least 0.
        device: A GPU whose generator is seeded, too; None, or the CPU, seeds those on the CPU alone.
    """
    of_python, of_numpy, default_rng = random.getstate(), np.random.get_state(), np.random.default_rng

    fixed = seed

    def seeded(seed: Any = None) -> np.random.Generator:
        return default_rng(fixed if seed is None else seed)

    gpus = [] if device is None or device.type != "cuda" else [device]
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # which takes no larger ones
        np.random.default_rng = seeded
        try:
            yield
        finally:
            np.random.default_rng = default_rng
            np.random.set_state(of_numpy)
            random.setstate(of_python)
