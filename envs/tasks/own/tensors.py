"""A task from a user's tensors, loss and metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..base import SplitName
from .example_sources import TensorSource
from .examples import Pair
from .source_task import SourceTask, check_settings


class TensorTask(SourceTask):
    """Hold inputs and targets in memory; they are not copied.

    Integer targets of shape (N,) are class indices, and those of shape (N, H, W) class indices of pixels. All
    others are numbers or labels; (N,) then becomes (N, 1), the shape of networks' outputs.

    Args:
        train: Inputs (N, ...) and targets (N, ...). Inputs of type uint8 are pixels and are scaled to [0, 1].
        val: The same for measuring candidates, disjoint from ``train``.
        test: The same for the report, disjoint from both.
        **settings: Loss, metric and more, as for :class:`.source_task.SourceTask`.

    Raises:
        TypeError: If a split is not a pair of tensors, the loss or the metric cannot be called, or a setting
            is unknown.
        ValueError: If shapes of splits do not match.
    """

    def __init__(self, *, train: Pair, val: Pair, test: Pair, **settings: Any) -> None:
        check_settings(settings)
        given: Mapping[SplitName, Any] = {"train": train, "val": val, "test": test}
        super().__init__({split: _source(split, pair) for split, pair in given.items()}, **settings)


def _source(split: str, pair: Any) -> TensorSource:
    is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
    if not is_pair or not all(isinstance(part, Tensor) for part in pair):
        raise TypeError(f"{split} is {_described(pair)}; give a pair of tensors: inputs and targets")
    inputs, targets = pair
    if inputs.dim() < 2 or targets.dim() < 1 or len(inputs) != len(targets) or not len(inputs):
        raise ValueError(
            f"{split} has inputs of {tuple(inputs.shape)} and targets of {tuple(targets.shape)}; "
            "give as many targets as inputs, at least one, one per row"
        )
    return TensorSource(inputs.detach(), targets.detach())


def _described(thing: Any) -> str:
    if isinstance(thing, (tuple, list)):
        return f"a {type(thing).__name__} of {len(thing)} ({', '.join(type(x).__name__ for x in thing[:3])})"
    return f"a {type(thing).__name__}"
