"""Outputs of networks: one tensor, or the main output together with those of auxiliary heads.

Tuples and dicts are taken apart here only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

_MAIN, _AUXILIARY = "out", "aux"
"""The keys of torchvision's segmentation networks."""


def main_and_auxiliary(outputs: Any) -> tuple[Tensor, list[Tensor]]:
    """Separate the main output from those of auxiliary heads, all as float32.

    Args:
        outputs: A tensor. Or a tuple or list that begins with the main output, as GoogLeNet and Inception
            return in training mode. Or a dict with the main output under ``out``, as torchvision's
            segmentation networks return, or with one entry.

    Raises:
        TypeError: If ``outputs`` is anything else.
    """
    if isinstance(outputs, Tensor):
        return outputs.float(), []
    if isinstance(outputs, Mapping) and (_MAIN in outputs or len(outputs) == 1):
        main = outputs[_MAIN] if _MAIN in outputs else next(iter(outputs.values()))
        others: Sequence[Any] = [outputs[_AUXILIARY]] if {_MAIN, _AUXILIARY} <= set(outputs) else []
    elif isinstance(outputs, (tuple, list)) and outputs:
        main, *others = outputs
    else:
        given = f"a dict with {', '.join(map(repr, outputs))}" if isinstance(outputs, Mapping) else ""
        raise TypeError(_refusal(given or f"a {type(outputs).__name__}"))
    if not isinstance(main, Tensor):
        raise TypeError(_refusal(f"a {type(main).__name__} as its answer"))
    return main.float(), [other.float() for other in others if isinstance(other, Tensor)]


def main_output(outputs: Any) -> Tensor:
    """Return the main output alone, as float32; see :func:`main_and_auxiliary`."""
    return main_and_auxiliary(outputs)[0]


def _refusal(given: str) -> str:
    return (
        f"the network gives {given}; give a network that answers with a tensor, a tuple that begins with "
        f"one, or a dict that has one under {_MAIN!r}"
    )
