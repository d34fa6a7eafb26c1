"""Labels that a loss ignores, such as 255 for unlabelled pixels: found by trying it.

Shapes: N examples, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..io.untrusted import first_line

Loss = Callable[[Tensor, Tensor], Any]

_CHUNK = 2**24
"""Largest number of labels that are looked at together."""

_COUNTED = 2**16
"""Labels below this are counted."""


def labels_in(targets: Tensor) -> list[int]:
    """Return the different labels of targets (N, ...) of whole numbers, ascending."""
    found: set[int] = set()
    for part in targets.reshape(-1).split(_CHUNK):
        low, high = (int(end) for end in torch.aminmax(part))
        is_counted = low >= 0 and high < _COUNTED  # four times faster than sorting
        labels = torch.bincount(part, minlength=1).nonzero() if is_counted else part.unique()
        found.update(labels.flatten().tolist())
    return sorted(found)


def accepts(loss: Loss, outputs: Tensor, targets: Tensor, label: int) -> bool:
    """Return whether a loss takes a label beside proper ones; arguments as for :func:`refusal`."""
    return not refusal(loss, outputs, targets, label)


def refusal(loss: Loss, outputs: Tensor, targets: Tensor, label: int) -> str:
    """Say that a loss fails on a label beside proper ones, or is not finite; "" if it takes it.

    Args:
        loss: The loss.
        outputs: Outputs (B, K, ...), on the CPU, as a label out of range ends all work on a GPU.
        targets: Proper targets of them, (B, ...) int64, at least two labels.
        label: The label to try.
    """
    try:
        value = torch.as_tensor(loss(outputs.clone(), _with_label(targets, label)))
    except Exception as error:
        is_elsewhere = "same device" in str(error)  # a loss with weights on a GPU cannot be tried
        return "" if is_elsewhere else f"fails ({first_line(error)})"
    return "" if bool(torch.isfinite(value).all()) else "is infinite or undefined"


def ignores(loss: Loss, classes: int, dims: int, label: int) -> bool:
    """Return whether outputs for a label have no part in a loss.

    Args:
        loss: The loss.
        classes: Number of classes, K.
        dims: Axes of the targets, 1 for one class of each example.
        label: The label to try.
    """
    outputs = torch.zeros(2, classes, *(1,) * (dims - 1), requires_grad=True)
    targets = torch.zeros(2, *(1,) * (dims - 1), dtype=torch.int64)
    try:
        loss(outputs.clone(), _with_label(targets, label)).backward()
    except Exception:
        return False
    gradient = outputs.grad
    return gradient is not None and not gradient[0].any() and bool(gradient[1].any())


def _with_label(targets: Tensor, label: int) -> Tensor:
    changed = targets.clone(memory_format=torch.contiguous_format)
    changed.view(-1)[0] = label
    return changed


def count_classes(targets: Sequence[Tensor], loss: Loss, ignore_label: int | None) -> int:
    """Return the number of classes that targets have.

    Args:
        targets: Targets (N, ...) int64.
        loss: The user's loss. If it ignores the largest label, that is no class.
        ignore_label: Label that the metric ignores, or None.
    """
    labels = sorted({label for split in targets for label in labels_in(split) if label >= 0} - {ignore_label})
    *others, largest = labels or [0]
    classes = others[-1] + 1 if others else 0
    if classes and ignores(loss, classes, targets[0].dim(), largest):
        return classes
    return largest + 1
