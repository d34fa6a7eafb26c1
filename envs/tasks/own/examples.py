"""Examples as data sets give them: where inputs and targets are, and how they become tensors.

Shapes: B examples of a batch, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from ...modules.randomness import fixed_randomness
from ..passes import DataError

Pair = tuple[Tensor, Tensor]
Transform = Callable[..., Any]
Key = str | int

_INPUTS = ("image", "images", "img", "pixel_values", "input", "inputs", "x", "jpg", "jpeg", "png", "webp")
_TARGETS = (
    "label", "labels", "target", "targets", "y", "mask", "masks", "fine_label", "annotation", "cls",
)  # fmt: skip
"""The usual names, of Hugging Face's data sets, of webdataset's files and of batches."""

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Fields:
    """Where inputs and targets are in an example or a batch.

    Args:
        inputs: Key of the inputs in a dict or named tuple, or their position in a tuple or list.
        targets: The same for the targets.
    """

    inputs: Key
    targets: Key

    @classmethod
    def find(cls, item: Any, what: str, inputs: Key | None = None, targets: Key | None = None) -> Fields:
        """Find them in an example or a batch.

        Args:
            item: The example or the batch.
            what: What gives it, in messages.
            inputs: Key of the inputs; None finds them by their usual names, or takes the first of two.
            targets: The same for the targets; the second of two.

        Raises:
            TypeError: If it is no dict, tuple or list.
            ValueError: If a key is missing, or it is open which of several are meant.
        """
        named = _named(item)
        if named is not None and not (isinstance(item, tuple) and len(item) == 2 and not _known(named)):
            first = _one_of(_INPUTS, named) if inputs is None else inputs
            second = _one_of(_TARGETS, named) if targets is None else targets
            first, second = _completed(first, second, list(named))
            if first == second or not {first, second} <= set(named):
                listed = ", ".join(map(repr, named))
                raise ValueError(
                    f"{what} gives {_described(item)} with the keys {listed}: say which are meant, such as "
                    "inputs='image', targets='label'"
                )
            return cls(first, second)
        if not isinstance(item, (tuple, list)):
            raise TypeError(
                f"{what} gives {_described(item)}; it has to give pairs of inputs and targets, or dicts"
            )
        positions = [0 if inputs is None else inputs, 1 if targets is None else targets]
        is_open = len(item) != 2 and None in (inputs, targets)
        if is_open or not all(isinstance(k, int) and 0 <= k < len(item) for k in positions):
            raise ValueError(
                f"{what} gives {_described(item)}: say which of them are meant, such as inputs=0, targets=1"
            )
        return cls(*positions)

    def of(self, item: Any) -> tuple[Any, Any]:
        """Return inputs and targets of an example or a batch."""
        named = _named(item) if isinstance(self.inputs, str) else None
        source = item if named is None else named
        return source[self.inputs], source[self.targets]


@dataclass(frozen=True)
class Recipe:
    """How an example becomes a pair of tensors.

    Args:
        fields: Where its input and target are.
        transform: Function of the input as the data set gives it; of input and mask together if the target is
            a mask; None leaves it.
    """

    fields: Fields
    transform: Transform | None = None

    def example(self, item: Any, seed: int) -> Pair:
        """Return input and target of an example.

        Args:
            item: What the data set gives.
            seed: Seed of the transform's random numbers.
        """
        value, target = self.fields.of(item)
        if self.transform is not None:
            with fixed_randomness(seed):
                if is_mask(target):
                    value, target = self.transform(_image(value), tv_tensors.Mask(as_target(target)))
                else:
                    value = self.transform(value)
        return as_input(value), as_target(target)

    def batch(self, item: Any) -> Pair:
        """Return inputs and targets of a batch; a transform is not applied."""
        inputs, targets = self.fields.of(item)
        if isinstance(inputs, (list, tuple)):
            inputs = torch.stack([as_input(one) for one in inputs])
        if isinstance(targets, (list, tuple)):
            targets = torch.stack([as_target(one) for one in targets])
        return as_input(inputs), as_target(targets)

    def stack(self, examples: Sequence[Pair], what: str) -> Pair:
        """Join examples to a batch.

        Raises:
            DataError: If their shapes differ.
        """
        check_shapes(examples, what)
        inputs, targets = zip(*examples, strict=True)
        return torch.stack(inputs), torch.stack(targets)


def check_shapes(parts: Sequence[Pair], what: str, axes: int = 0) -> None:
    """Check that examples can be joined to a batch.

    Args:
        parts: Inputs and targets of examples, or of batches.
        what: Name of the split, for messages.
        axes: Number of first axes that may differ: 1 for batches.

    Raises:
        DataError: If their shapes differ.
    """
    for kind, tensors in zip(("inputs", "targets"), zip(*parts, strict=True), strict=True):
        shapes = sorted({tuple(tensor.shape[axes:]) for tensor in tensors})
        if len(shapes) > 1:
            raise DataError(
                f"{what} has {kind} that differ in shape, such as {shapes[0]} and {shapes[-1]}: give "
                "transforms that make them equal, as train_transform and eval_transform"
            )


def is_batch(item: Any, fields: Fields, what: str, *, usually: bool) -> bool:
    """Return whether an item of an iterable is a batch, not an example.

    Args:
        item: The item.
        fields: Where its inputs and targets are.
        what: Name of the split, for messages.
        usually: Whether what gives it usually gives batches, as a ``DataLoader`` does; for doubtful cases.

    Raises:
        ValueError: If a batch has another number of targets than of inputs.
    """
    inputs, targets = fields.of(item)
    lengths = [_length(inputs), _length(targets)]
    if isinstance(inputs, Image.Image) or None in lengths:
        return False
    if lengths[0] != lengths[1]:
        if usually and getattr(inputs, "ndim", 0) == 4:
            raise ValueError(
                f"{what} gives a batch of {lengths[0]} inputs and {lengths[1]} targets; give as many of both"
            )
        return False
    return usually or getattr(inputs, "ndim", 0) == 4 or isinstance(inputs, (list, tuple))


def as_input(value: Any) -> Tensor:
    """Return an image, an array or numbers as a tensor.

    Images and arrays of bytes (..., H, W, C) become (..., C, H, W).

    Raises:
        TypeError: If it is none of these.
    """
    if isinstance(value, Tensor):
        return value.as_subclass(Tensor).detach()
    if isinstance(value, Image.Image):
        value = np.asarray(value.convert("RGB") if value.mode in ("P", "PA") else value)
        value = value if value.ndim == 3 else value[:, :, None]
    elif isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 2:
        value = value[:, :, None]
    if isinstance(value, np.ndarray):
        if value.dtype == np.uint8 and value.ndim > 2 and value.shape[-1] in _CHANNELS:
            value = np.moveaxis(value, -1, -3)
        return _tensor(value)
    return as_target(value)


def as_target(value: Any) -> Tensor:
    """Return a number, a list of numbers, an array or a mask as a tensor.

    Raises:
        TypeError: If it is none of these.
    """
    if isinstance(value, Tensor):
        return value.as_subclass(Tensor).detach()
    if isinstance(value, Image.Image):
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and value.ndim:
        return _tensor(value)
    try:
        found = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"a {type(value).__name__} is no number, image, array or tensor") from None
    return found.float() if found.dtype == torch.float64 else found  # Python's numbers have no type of theirs


def is_mask(target: Any) -> bool:
    """Return whether an example's target is a mask: whole numbers, one for each pixel."""
    if isinstance(target, Image.Image):
        return True
    if not isinstance(target, (Tensor, np.ndarray)) or target.ndim < 2:
        return False
    return not as_target(target).is_floating_point()


def number_of_bytes(value: Any) -> int:
    """Return the memory that an example takes, without that of Python's objects."""
    if isinstance(value, Image.Image):
        return value.width * value.height * len(value.getbands())
    if isinstance(value, Mapping):
        return sum(map(number_of_bytes, value.values()))
    if isinstance(value, (tuple, list)):
        return sum(map(number_of_bytes, value))
    return int(getattr(value, "nbytes", 8))


def nothing(example: Pair) -> Pair:
    """Return a batch of no examples of the same shape as one."""
    inputs, targets = (part.new_empty((0, *part.shape)) for part in example)
    return inputs, targets


def equal(first: Any, second: Any) -> bool:
    """Return whether two examples are the same."""
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, (tuple, list)):
        return len(first) == len(second) and all(map(equal, first, second))
    if isinstance(first, (Tensor, np.ndarray, Image.Image)):
        one, other = as_target(first), as_target(second)
        return one.shape == other.shape and bool(torch.allclose(one, other, rtol=0, atol=0, equal_nan=True))
    return bool(first == second)


def _image(value: Any) -> Any:
    """Return what transforms know to be an image, beside a mask."""
    if isinstance(value, (Image.Image, tv_tensors.TVTensor)):
        return value
    return tv_tensors.Image(as_input(value))


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    if array.dtype.kind not in "biuf":
        raise TypeError(f"an array of {array.dtype} is no numbers")
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _length(values: Any) -> int | None:
    if isinstance(values, (Tensor, np.ndarray)):
        return len(values) if values.ndim else None
    return len(values) if isinstance(values, (list, tuple)) else None


def _named(item: Any) -> Mapping[Any, Any] | None:
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return dict(zip(item._fields, item, strict=True))
    return item if isinstance(item, Mapping) else None


def _known(named: Mapping[Any, Any]) -> bool:
    return any(_one_of(names, named) is not None for names in (_INPUTS, _TARGETS))


def _completed(first: Any, second: Any, keys: list[Any]) -> tuple[Any, Any]:
    """Fill in the other one of two keys if only one is known."""
    if len(keys) == 2 and (first is None) != (second is None):
        other = next((key for key in keys if key not in (first, second)), None)
        return (other, second) if first is None else (first, other)
    return first, second


def _one_of(names: Sequence[str], named: Mapping[Any, Any]) -> Any:
    found = [key for key in named if str(key).lower() in names]
    return found[0] if len(found) == 1 else None


def _described(thing: Any) -> str:
    if isinstance(thing, (tuple, list)):
        return f"a {type(thing).__name__} of {len(thing)} ({', '.join(type(x).__name__ for x in thing[:3])})"
    return f"a {'dict' if isinstance(thing, Mapping) else type(thing).__name__}"
