"""A few numbers by which data are known again, on another machine and device, too."""

import math
from itertools import zip_longest

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ..modules.randomness import fixed_randomness
from .base import SplitName, Task
from .passes import spread

_EXAMPLES = 5
"""Examples of val and of test that are looked at."""

_ROUNDED = "~"
"""Mark of a number that another machine may round otherwise, such as that of an image."""

_TOLERANCE = 1e-3
"""Difference of two numbers, relative or absolute, that rounding explains."""


def data_fingerprint(task: Task) -> str:
    """Return the sizes of all splits, and the mean size of each tensor of some examples of val and of test.

    Args:
        task: The task. Its training images are not read, as they may be in another order each time.

    Returns:
        Numbers in a text, those that rounding may change with a ``~`` before them; "" if the task gives other
        examples each time, or may do so in another process.
    """
    if {"val", "test"} & {*getattr(task, "unrepeatable", ())}:
        return ""
    first, second = _fingerprint(task), _fingerprint(task)
    return first if first == second else ""


def are_same_data(one: str, other: str) -> bool:
    """Return whether two fingerprints are equal, but for rounding."""
    pairs = zip_longest(one.split(), other.split(), fillvalue="")
    return all(a == b or _are_close(a, b) for a, b in pairs)


def _are_close(one: str, other: str) -> bool:
    if not (one.startswith(_ROUNDED) and other.startswith(_ROUNDED)):
        return False
    return math.isclose(float(one[1:]), float(other[1:]), rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _fingerprint(task: Task) -> str:
    numbers = [str(task.size("train"))]
    measured: tuple[SplitName, ...] = ("val", "test")
    for split in measured:
        size = task.size(split)
        numbers.append(str(size))
        for place in spread(size, _EXAMPLES):
            with fixed_randomness():
                example = task.batch(split, place[None])
            tensors = [leaf for leaf in tree_leaves(example) if isinstance(leaf, Tensor) and leaf.numel()]
            numbers += map(_number, tensors)
    return " ".join(numbers)


def _number(tensor: Tensor) -> str:
    mean = float(tensor.to(torch.complex128).abs().mean())  # of any type
    is_rounded = tensor.is_floating_point() or tensor.is_complex()
    return f"{_ROUNDED}{mean:.6g}" if is_rounded else str(mean)
