"""Refuse weights and statistics that no trained network has, by their names."""

from __future__ import annotations

from torch import Tensor, nn

from ..io.sparse_tensors import FLOATS
from ..io.tensor_files import is_finite
from .prunable_kind import check_has_values

_STATISTICS = ("running_mean", "running_var")
"""Buffers of batch-norm and instance-norm; other buffers, such as masks of attention, may be infinite."""


def check_usable(model: nn.Module) -> None:
    """Refuse a network whose weights cannot be trained, or are no numbers.

    Raises:
        TypeError: If the network is no module.
        ValueError: If weights were made under ``torch.inference_mode()``, or as for :func:`check_finite`.
    """
    check_finite(model)
    for name, weight in model.named_parameters():
        if weight.is_inference():
            raise ValueError(
                f"{name} was made under torch.inference_mode(), so it can never be trained; build or load "
                "the network outside of it"
            )


def check_finite(model: nn.Module) -> None:
    """Refuse weights, or statistics of norms, that are no numbers.

    Raises:
        TypeError: If the network is no module.
        ValueError: If some are infinite or undefined, a variance is negative, or some have no values at all.
    """
    check_has_values(model)
    for name, weight in model.named_parameters():
        if type(weight) is nn.Parameter and _holds_numbers(weight) and not is_finite(weight):
            raise ValueError(f"{name} holds infinite or undefined numbers; give trained weights")
    for name, buffer in model.named_buffers():
        kind = name.rpartition(".")[2]
        if kind not in _STATISTICS or not _holds_numbers(buffer):
            continue
        problem = "" if is_finite(buffer) else "infinite or undefined numbers"
        if kind == "running_var" and bool((buffer < 0).any()):
            problem = problem or "negative numbers, and a variance is never negative"
        if problem:
            raise ValueError(f"{name} holds {problem}; give a network with the statistics of its training")


def _holds_numbers(tensor: Tensor) -> bool:
    return tensor.dtype in FLOATS and not tensor.is_meta
