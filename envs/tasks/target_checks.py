"""Checks of inputs and targets: numbers are finite, and the loss takes every label.

Shapes: N examples, B of them, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..io.wording import counted
from .base import SplitName, Task
from .finite_examples import require_finite
from .ignored_labels import accepts, labels_in, refusal
from .optional_members import inputs_at_hand, measuring_batch, targets_at_hand
from .passes import spread

_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")

LOOKED_AT = 128
"""Number of examples of each split that are read for the checks."""

_TRIED = 8
"""Largest number of labels of a split that are tried."""


def check_data(task: Task, outputs: Tensor) -> None:
    """Check inputs and targets of every split: all that are at hand, else those of a few examples.

    Args:
        task: The task.
        outputs: Outputs of the network for two examples, (2, K, ...).

    Raises:
        ValueError: If one is infinite or undefined, or is a label that the loss does not take.
    """
    outputs = outputs.detach().cpu()
    for split in _SPLITS:
        labels: set[int] = set()
        for targets, numbers in _targets(task, split):
            require_finite(targets, numbers, "targets", split, task)
            if is_classes(targets, outputs):
                labels.update(labels_in(targets))
        if labels:
            _check_labels(task, split, sorted(labels), outputs)


def check_extremes(task: Task, outputs: Tensor) -> None:
    """Check that the loss takes the smallest and the largest proper label of every split.

    Args:
        task: The task; its loss takes two of its examples.
        outputs: Outputs of the network for them, (2, K, ...).

    Raises:
        ValueError: If it does not.
    """
    outputs = outputs.detach().cpu()
    for split in _SPLITS:
        targets = targets_at_hand(task, split)
        if targets is None or not is_classes(targets, outputs):
            continue
        proper = [label for label in labels_in(targets) if 0 <= label < outputs.shape[1]]
        for label in {*proper[:1], *proper[-1:]}:
            if refused := refusal(task.loss, outputs, _zeros(outputs), label):
                raise ValueError(
                    f"the loss of {task.name} {refused} on the label {label} of {split}, with finite "
                    "outputs; mend the loss: it has to be a finite number for labels from 0 to "
                    f"{outputs.shape[1] - 1}"
                )


def is_classes(targets: Tensor, outputs: Tensor) -> bool:
    """Return whether targets are class indices for outputs (B, K, ...), of an example or of each pixel."""
    whole = not targets.is_floating_point() and targets.dtype != torch.bool
    return whole and outputs.dim() > 1 and targets.shape[1:] == outputs.shape[2:]


def float_labels(outputs: Tensor, targets: Tensor) -> str:
    """Say that class indices are given as numbers with a point, if it seems so; else ""."""
    is_one = outputs.dim() == 2 and outputs.shape[1] > 1 and targets.numel() == len(targets)
    if not is_one or not targets.is_floating_point() or not torch.equal(targets, targets.round()):
        return ""
    kind = str(targets.dtype).removeprefix("torch.")
    return f"the targets are one {kind} for each example; if they are classes, give whole numbers: y.long()"


def _targets(task: Task, split: SplitName) -> Iterator[tuple[Tensor, Tensor]]:
    """Read a few examples and check their inputs; yield targets, and the indices of their examples."""
    at_hand, inputs_held = targets_at_hand(task, split), inputs_at_hand(task, split)
    if inputs_held is not None:
        require_finite(inputs_held, torch.arange(len(inputs_held)), "inputs", split, task)
    numbers = spread(task.size(split), LOOKED_AT)
    for part in numbers.split(measuring_batch(task, 64)):
        inputs, targets = task.batch(split, part)
        require_finite(inputs, part, "inputs", split, task)
        if at_hand is None:
            yield targets, part
    if at_hand is not None:
        yield at_hand, torch.arange(len(at_hand))


def _check_labels(task: Task, split: SplitName, labels: list[int], outputs: Tensor) -> None:
    classes = outputs.shape[1]
    others = [label for label in labels if not 0 <= label < classes]
    if not others or not accepts(task.loss, outputs, _zeros(outputs), 0):
        return  # a loss that takes nothing is reported as such
    for label in {*others[: _TRIED // 2], *others[-_TRIED // 2 :]}:
        if not accepts(task.loss, outputs, _zeros(outputs), label):
            raise ValueError(
                f"{split} of {task.name} has the label {label}, and the network "
                f"{counted(classes, 'output')}: labels are 0 to {classes - 1}, or one that the loss ignores; "
                "mend the labels, or give a network with more outputs"
            )
    if others == labels and targets_at_hand(task, split) is not None:  # else there may be more
        raise ValueError(
            f"{split} of {task.name} has no label but {', '.join(map(str, others[:_TRIED]))}, which the loss "
            f"ignores; give labels from 0 to {classes - 1}"
        )


def _zeros(outputs: Tensor) -> Tensor:
    return torch.zeros(len(outputs), *outputs.shape[2:], dtype=torch.int64)
