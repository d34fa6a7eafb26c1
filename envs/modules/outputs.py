"""Outputs of networks: one tensor, or the main output together with those of auxiliary heads.

Only this module takes tuples and dicts apart. Losses, metrics and distillation expect logits. Some networks
return probabilities beside them: ultralytics' classifiers return ``(softmax, logits)`` in evaluation mode.
Which is which follows from their values, so nothing has to be stored about a network, its cut copies or its
teacher.

Shapes: B examples of a batch, K classes.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .structures import attributes_of

_MAIN, _AUXILIARY = ("out", "logits"), "aux"
"""The names of main and auxiliary outputs: of torchvision's segmentation networks, and of Hugging Face's."""

_SUM_TOLERANCE = 5e-3
"""Tolerance of the sum of probabilities: bfloat16 rounds each by a relative error of up to 2^-9."""

PROBABILITIES_BESIDE_LOGITS = (
    "The network returns probabilities and their logits: loss, metric and distillation use the logits."
)
PROBABILITIES_ALONE = (
    "The network's outputs sum to one over the classes, so it seems to return probabilities, but "
    "cross-entropy and distillation expect logits: remove its last softmax."
)


def main_and_auxiliary(outputs: Any, shape: tuple[int, ...] | None = None) -> tuple[Tensor, list[Tensor]]:
    """Separate the main output from those of auxiliary heads, all as float32.

    Args:
        outputs: A tensor. Or a tuple or list that begins with the main output, as GoogLeNet and Inception
            return in training mode, or with its softmax or sigmoid. Or a dict, a dataclass, a named tuple or
            an object that has the main output under ``out``, as torchvision's segmentation networks return,
            or under ``logits``, as those of Hugging Face; or that has one tensor only.
        shape: Shape of the main output for one example in evaluation mode, if known. The first entry of a
            tuple or list that has it is the main output, as deep supervision may begin with a coarse one.

    Raises:
        TypeError: If ``outputs`` is anything else.
    """
    if isinstance(outputs, Tensor):
        return outputs.float(), []
    named = _named(outputs)
    name = next((name for name in _MAIN if name in named), None) or _only_tensor(named)
    if _is_several(outputs) and outputs:
        first = outputs if name is None else [named[name], *_without(named, name)]
        main, *others = _starting_with(shape, _without_probabilities(first))
    elif name is not None:
        main, others = named[name], [named[_AUXILIARY]] if name in _MAIN and _AUXILIARY in named else []
    else:
        holds = f" with {', '.join(map(repr, named))}" if named else ""
        kind = "dict" if isinstance(outputs, Mapping) else type(outputs).__name__
        raise TypeError(_refusal(f"a {kind}{holds}"))
    if not isinstance(main, Tensor):
        raise TypeError(_refusal(f"a {type(main).__name__} as its main output"))
    return main.float(), [other.float() for other in others if isinstance(other, Tensor)]


def _named(outputs: Any) -> dict[Any, Any]:
    """Return the entries of a dict, the fields of a named tuple, or the attributes of an object by name."""
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if isinstance(outputs, tuple):
        return dict(zip(getattr(outputs, "_fields", ()), outputs, strict=False))
    return {} if isinstance(outputs, list) else attributes_of(outputs)


def _starting_with(shape: tuple[int, ...] | None, entries: Sequence[Any]) -> list[Any]:
    """Move the first entry with a shape to the front; leave the order if there is none."""
    fits = [isinstance(entry, Tensor) and entry.shape[1:] == shape for entry in entries]
    first = fits.index(True) if True in fits else 0
    return [entries[first], *entries[:first], *entries[first + 1 :]]


def _only_tensor(named: Mapping[Any, Any]) -> Any:
    """Return the name of the only entry, or of the only tensor among the entries; None if there is none."""
    names = [name for name, value in named.items() if len(named) == 1 or isinstance(value, Tensor)]
    return names[0] if len(names) == 1 else None


def _without(named: Mapping[Any, Any], name: Any) -> list[Any]:
    return [value for other, value in named.items() if other != name]


def main_output(outputs: Any) -> Tensor:
    """Return the main output alone, as float32; see :func:`main_and_auxiliary`."""
    return main_and_auxiliary(outputs)[0]


@contextlib.contextmanager
def recorded_outputs(model: nn.Module) -> Iterator[list[Any]]:
    """Collect what a network gives back in each call inside the context.

    Args:
        model: The network; its outputs are not changed.
    """
    given: list[Any] = []
    handle = model.register_forward_hook(lambda _module, _inputs, outputs: given.append(outputs))
    try:
        yield given
    finally:
        handle.remove()


def check_logits(outputs: Any, *, classes: bool) -> tuple[str, ...]:
    """Check whether the outputs for a few examples are logits.

    Args:
        outputs: Outputs as for :func:`main_and_auxiliary`.
        classes: Whether targets are classes; outputs for other targets may sum to one.

    Returns:
        Notes for the user about probabilities; often none.

    Raises:
        ValueError: If probabilities of classes come with other tensors, but not with their logits.
    """
    tensors = [entry for entry in outputs if isinstance(entry, Tensor)] if _is_several(outputs) else []
    if tensors and len(_without_probabilities(tensors)) < len(tensors):
        return (PROBABILITIES_BESIDE_LOGITS,)
    if not classes or not _sums_to_one(main_output(outputs)):
        return ()
    if len(tensors) > 1:
        raise ValueError(
            "the network returns a tuple that begins with probabilities (they sum to one over classes), and "
            "no other entry is their logits: give a network that returns logits alone, such as a module "
            "that wraps this one"
        )
    return (PROBABILITIES_ALONE,)


def _is_several(outputs: Any) -> bool:
    return isinstance(outputs, (tuple, list))


def _without_probabilities(entries: Sequence[Any]) -> list[Any]:
    """Remove probabilities whose logits are present: those of the first entry, or the first entry itself."""
    first, *others = entries
    for k, other in enumerate(others):
        rest = others[:k] + others[k + 1 :]
        if _are_probabilities_of(first, other):
            return [other, *rest]
        if _are_probabilities_of(other, first):
            return [first, *rest]
    return [first, *others]


@torch.no_grad()
def _are_probabilities_of(first: Any, second: Any) -> bool:
    """Return whether a tensor is the softmax over the classes, or the sigmoid, of another.

    Probabilities may be rounded to the coarser type of the two, as under autocast. NaN in both counts as
    equal.
    """
    if not isinstance(first, Tensor) or not isinstance(second, Tensor) or first.shape != second.shape:
        return False
    if not first.is_floating_point() or not second.is_floating_point():
        return False
    eps = max(torch.finfo(dtype).eps for dtype in (first.dtype, second.dtype, torch.float32))
    probabilities, logits = first.float(), second.float()
    candidates = [logits.sigmoid()]
    if logits.dim() > 1 and logits.shape[1] > 1:  # the softmax of a single class is always 1
        candidates.append(logits.softmax(1))
    return any(
        torch.allclose(probabilities, expected, rtol=4 * eps, atol=1e-6, equal_nan=True)
        for expected in candidates
    )


def _sums_to_one(outputs: Tensor) -> bool:
    if outputs.dim() < 2 or outputs.shape[1] < 2:
        return False
    sums = outputs.sum(1)
    return bool((outputs >= 0).all()) and bool(((sums - 1).abs() <= _SUM_TOLERANCE).all())


def _refusal(given: str) -> str:
    return (
        f"the network returns {given}; give a network that returns a tensor, a tuple that begins with "
        f"one, or a dict or an object that has one under {' or '.join(map(repr, _MAIN))}"
    )
