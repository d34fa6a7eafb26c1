"""Refuse examples whose numbers are infinite or undefined, by their index."""

from __future__ import annotations

import torch
from torch import Tensor

from ..io.tensor_files import is_finite
from .base import SplitName, Task

_CHUNK = 256
"""Number of examples that are looked at together for the first that is not finite."""


def require_finite(values: Tensor, numbers: Tensor, what: str, split: SplitName, task: Task) -> None:
    """Refuse examples with infinite or undefined numbers.

    Args:
        values: Their inputs or targets, (B, ...).
        numbers: Their indices, (B,).
        what: "inputs" or "targets".
        split: Their split.
        task: The task, for the message.

    Raises:
        ValueError: If there are some; the message has the index of the first.
    """
    values = torch.view_as_real(values) if values.is_complex() else values
    if not values.is_floating_point() or is_finite(values):
        return
    for part, of_part in zip(values.split(_CHUNK), numbers.split(_CHUNK), strict=True):
        wrong = ~torch.isfinite(part.reshape(len(part), -1)).all(1)
        if bool(wrong.any()):
            raise ValueError(
                f"example {int(of_part[wrong.cpu()][0])} of {split} of {task.name} has {what} that are "
                "infinite or undefined; repair the data"
            )
