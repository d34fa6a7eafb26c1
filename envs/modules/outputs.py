"""Outputs of networks: one tensor, or the main output together with those of auxiliary heads.

Tuples and dicts are taken apart here only. Losses, metrics and distillation expect logits. Some networks
return probabilities beside them: ultralytics' classifiers return ``(softmax, logits)`` in evaluation mode.
Which is which can be computed from the two, so nothing has to be remembered about a network, its cut copies
or its teacher.

Shapes: B examples of a batch, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_MAIN, _AUXILIARY = "out", "aux"
"""The keys of torchvision's segmentation networks."""

_SUM_TOLERANCE = 5e-3
"""How far from one probabilities may sum: bfloat16 rounds each of them by up to 2^-9 of itself."""

PROBABILITIES_BESIDE_LOGITS = (
    "The network gives probabilities and their logits: loss, metric and distillation use the logits."
)
PROBABILITIES_ALONE = (
    "The network's outputs sum to one over the classes, so it seems to answer with probabilities, where "
    "cross-entropy and distillation expect logits: leave out its last softmax."
)


def main_and_auxiliary(outputs: Any) -> tuple[Tensor, list[Tensor]]:
    """Separate the main output from those of auxiliary heads, all as float32.

    Args:
        outputs: A tensor. Or a tuple or list that begins with the main output, as GoogLeNet and Inception
            return in training mode, or with its softmax or sigmoid. Or a dict with the main output under
            ``out``, as torchvision's segmentation networks return, or with one entry.

    Raises:
        TypeError: If ``outputs`` is anything else.
    """
    if isinstance(outputs, Tensor):
        return outputs.float(), []
    if isinstance(outputs, Mapping) and (_MAIN in outputs or len(outputs) == 1):
        main = outputs[_MAIN] if _MAIN in outputs else next(iter(outputs.values()))
        others: Sequence[Any] = [outputs[_AUXILIARY]] if {_MAIN, _AUXILIARY} <= set(outputs) else []
    elif _is_several(outputs) and outputs:
        main, *others = _without_probabilities(outputs)
    else:
        given = f"a dict with {', '.join(map(repr, outputs))}" if isinstance(outputs, Mapping) else ""
        raise TypeError(_refusal(given or f"a {type(outputs).__name__}"))
    if not isinstance(main, Tensor):
        raise TypeError(_refusal(f"a {type(main).__name__} as its answer"))
    return main.float(), [other.float() for other in others if isinstance(other, Tensor)]


def main_output(outputs: Any) -> Tensor:
    """Return the main output alone, as float32; see :func:`main_and_auxiliary`."""
    return main_and_auxiliary(outputs)[0]


def check_logits(outputs: Any, *, classes: bool) -> tuple[str, ...]:
    """Look once at what a network gives for a few examples.

    Args:
        outputs: What :func:`main_and_auxiliary` takes.
        classes: Whether targets are classes; of other targets numbers that sum to one are no mistake.

    Returns:
        What the user should know of its probabilities, in sentences; often nothing.

    Raises:
        ValueError: If it gives probabilities of classes beside other tensors, none of which are their logits.
    """
    tensors = [entry for entry in outputs if isinstance(entry, Tensor)] if _is_several(outputs) else []
    if tensors and len(_without_probabilities(tensors)) < len(tensors):
        return (PROBABILITIES_BESIDE_LOGITS,)
    if not classes or not _sums_to_one(main_output(outputs)):
        return ()
    if len(tensors) > 1:
        raise ValueError(
            "the network gives a tuple that begins with probabilities (they sum to one over classes), and "
            "no other entry is their logits: give a network that answers with logits alone, such as a module "
            "that wraps this one"
        )
    return (PROBABILITIES_ALONE,)


def _is_several(outputs: Any) -> bool:
    return isinstance(outputs, (tuple, list))


def _without_probabilities(entries: Sequence[Any]) -> list[Any]:
    """Leave out probabilities of which there are logits: the first entry's, or the first entry itself."""
    first, *others = entries
    for k, other in enumerate(others):
        rest = others[:k] + others[k + 1 :]
        if _are_probabilities_of(first, other):
            return [other, *rest]
        if _are_probabilities_of(other, first):
            return [first, *rest]
    return [first, *others]


@torch.no_grad()
def _are_probabilities_of(one: Any, other: Any) -> bool:
    """Tell whether one tensor is the softmax over the classes, or the sigmoid, of another.

    Probabilities may be rounded to the coarser of both types, as under autocast. Where the logits are no
    numbers the probabilities are none either, and still theirs.
    """
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.shape != other.shape:
        return False
    if not one.is_floating_point() or not other.is_floating_point():
        return False
    eps = max(torch.finfo(dtype).eps for dtype in (one.dtype, other.dtype, torch.float32))
    probabilities, logits = one.float(), other.float()
    candidates = [logits.sigmoid()]
    if logits.dim() > 1 and logits.shape[1] > 1:  # the softmax of one class is one, whatever its logit
        candidates.append(logits.softmax(1))
    return any(
        torch.allclose(probabilities, found, rtol=4 * eps, atol=1e-6, equal_nan=True) for found in candidates
    )


def _sums_to_one(outputs: Tensor) -> bool:
    if outputs.dim() < 2 or outputs.shape[1] < 2:
        return False
    sums = outputs.sum(1)
    return bool((outputs >= 0).all()) and bool(((sums - 1).abs() <= _SUM_TOLERANCE).all())


def _refusal(given: str) -> str:
    return (
        f"the network gives {given}; give a network that answers with a tensor, a tuple that begins with "
        f"one, or a dict that has one under {_MAIN!r}"
    )
