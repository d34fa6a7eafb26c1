"""A few numbers by which data are known again, on another machine and device, too."""

import math

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ..modules.randomness import fixed_randomness
from .base import SplitName, Task

_EXAMPLES = 5
"""Examples of val and of test that are looked at."""

_TOLERANCE = 1e-3
"""Difference of two numbers, relative or absolute, that rounding explains."""


def data_fingerprint(task: Task) -> str:
    """Return the sizes of all splits, and the mean size of each tensor of some examples of val and of test.

    Args:
        task: The task. Its training images are not read, as they may be in another order each time.

    Returns:
        Numbers in a text; "" if the task gives other examples each time, or may do so in another process.
    """
    if {"val", "test"} & {*getattr(task, "unrepeatable", ())}:
        return ""
    first, second = _fingerprint(task), _fingerprint(task)
    return first if first == second else ""


def are_same_data(one: str, other: str) -> bool:
    """Return whether two fingerprints are equal up to rounding."""
    pairs = list(zip(one.split(), other.split(), strict=False))
    close = (math.isclose(float(a), float(b), rel_tol=_TOLERANCE, abs_tol=_TOLERANCE) for a, b in pairs)
    return len(one.split()) == len(other.split()) and all(close)


def _fingerprint(task: Task) -> str:
    numbers: list[float] = [task.size("train")]
    measured: tuple[SplitName, ...] = ("val", "test")
    for split in measured:
        size = task.size(split)
        numbers.append(size)
        for place in torch.linspace(0, size - 1, min(_EXAMPLES, size)).long():
            with fixed_randomness():
                example = task.batch(split, place[None])
            tensors = [leaf for leaf in tree_leaves(example) if isinstance(leaf, Tensor) and leaf.numel()]
            numbers += [float(tensor.to(torch.complex128).abs().mean()) for tensor in tensors]  # of any type
    return " ".join(f"{number:.6g}" for number in numbers)
