"""Random numbers of examples: functions of a seed, an epoch and an index.

A generator gives an example other numbers in another batch, worker or process. These depend on nothing else,
so that a resumed, a streamed and a resident run see the same images, on any number of devices.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_Words = npt.NDArray[np.uint64]

_STEP = np.uint64(0x9E3779B97F4A7C15)


def derived_seed(*numbers: int) -> int:
    """Return a seed in [0, 2^63), a function of whole numbers such as a seed, an epoch and an index."""
    return int(_hashed(*(np.array([number], np.int64) for number in numbers))[0] >> np.uint64(1))


def uniform(seed: int, epoch: int, indices: Tensor, count: int) -> Tensor:
    """Draw numbers for examples.

    Args:
        seed: Seed of the run.
        epoch: Number of the epoch.
        indices: Indices of the examples, (B,) int64, on any device.
        count: Numbers for each example.

    Returns:
        Numbers in [0, 1), (B, count) float64, on the CPU.
    """
    examples = indices.cpu().numpy()[:, None]
    words = _hashed(np.array([[seed]]), np.array([[epoch]]), examples, np.arange(count)[None])
    return torch.from_numpy((words >> np.uint64(11)) * 2.0**-53)


def _hashed(*numbers: npt.NDArray[np.int64]) -> _Words:
    """Hash whole numbers element by element: SplitMix64, Steele et al. 2014, doi 10.1145/2660193.2660195."""
    word = np.zeros(1, np.uint64)
    for number in numbers:
        word = _mixed(word + _STEP + number.astype(np.uint64))
    return word


def _mixed(word: _Words) -> _Words:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
