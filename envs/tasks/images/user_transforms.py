"""Transforms of the user's own, instead of resizing, augmentation and normalisation.

Shapes: C channels, H and W pixels; h and w of an image as it was stored.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from ...io.memory import is_out_of_memory
from ...io.plugins import imported_module, nearest_or_all
from ...io.user_code import with_place
from ..draws import derived_seed
from ..passes import DataError
from .splits import Split

Transform = Callable[..., Any]

_TRIED = 4
"""Images on which transforms are tried before a job, twice each."""


@dataclass(frozen=True)
class Transforms:
    """A transform for training images and one for all others.

    A transform takes the decoded image, a ``tv_tensors.Image`` (3, h, w) uint8, and gives a float32 tensor of
    one shape. In segmentation it takes the image and a ``tv_tensors.Mask`` (h, w) uint8, and gives both.

    Args:
        train: The transform for training.
        evaluation: The transform for everything else.
        names: The names of both, for messages.
        shape: Shape of the results, (C, H, W); empty if they have not been tried yet.
    """

    train: Transform
    evaluation: Transform
    names: tuple[str, str]
    shape: tuple[int, ...] = ()

    @property
    def note(self) -> str:
        """A sentence for the report."""
        train, evaluation = self.names
        return (
            f"Images were prepared by transforms of the user's own: {train} for training, {evaluation} for "
            "everything else."
        )

    def tried(self, part: Split) -> Transforms:
        """Try both transforms on a few images and return them with the shape of the results.

        Args:
            part: The training images.

        Raises:
            ValueError: If one fails, or gives anything but float32 images of one shape.
        """
        few = torch.arange(min(_TRIED, len(part))) * len(part) // min(_TRIED, len(part))
        found = self
        try:
            for seed in (None, 0, 1):
                images, _ = found.batch(part, few[:1], seed, 0)
                found = dataclasses.replace(found, shape=tuple(images.shape[1:]))
                found.batch(part, few, seed, 0)
        except DataError as error:
            raise ValueError(str(error)) from error
        return found

    def batch(self, part: Split, indices: Tensor, seed: int | None, epoch: int) -> tuple[Tensor, Tensor]:
        """Read and transform images.

        Args:
            part: The split.
            indices: Indices of the images, (B,) int64.
            seed: Seed of the random transform for training; None takes the other.
            epoch: Number of the epoch.

        Returns:
            Images (B, C, H, W) float32, and labels (B,) int64 or masks (B, H, W).

        Raises:
            DataError: If an image cannot be read or a result is wrong.
        """
        which = 1 if seed is None else 0
        results = []
        with _restored_generators():
            for index in indices.tolist():
                _seed_generators(derived_seed(seed or 0, epoch, index))
                example = part.source.read_one(int(part.indices[index]))
                what = f"the transform {self.names[which]}, given {part.described(index)},"
                try:
                    result = _applied((self.train, self.evaluation)[which], *example)
                except Exception as error:  # the user's code may raise anything
                    if is_out_of_memory(error):
                        raise
                    raise DataError(f"{what} fails: {with_place(error)}") from error
                if complaint := self._complaint(result, has_mask=example[1].dim() == 2):
                    raise DataError(f"{what} gives {complaint}")
                results.append(result if example[1].dim() == 2 else (result, example[1]))
        if not results:
            return torch.empty(0, *self.shape), part.source.read_targets(indices)
        images, targets = (
            torch.stack([x.as_subclass(Tensor) for x in each]) for each in zip(*results, strict=True)
        )
        return images, targets

    def _complaint(self, result: Any, *, has_mask: bool) -> str:
        """Return what is wrong with a result, "" if nothing is."""
        mask = None
        if has_mask:
            if not isinstance(result, tuple | list) or len(result) != 2:
                return f"{_kind(result)}; it has to give an image and a mask"
            result, mask = result
        if not isinstance(result, Tensor) or result.dtype != torch.float32 or result.dim() != 3:
            return f"{_kind(result)}; it has to give a float32 tensor (C, H, W)"
        if self.shape and tuple(result.shape) != self.shape:
            return f"{_kind(result)}, others have {self.shape}; it has to give one shape"
        if has_mask and not (isinstance(mask, Tensor) and not mask.is_floating_point()):
            return f"the mask {_kind(mask)}; it has to be a tensor of whole numbers"
        if isinstance(mask, Tensor) and mask.shape != result.shape[1:]:
            return f"the mask {_kind(mask)} with an image of {tuple(result.shape)}; give them one size"
        return ""


def _applied(transform: Transform, image: Tensor, target: Tensor) -> Any:
    """Transform an image and, in segmentation, its mask."""
    given = (tv_tensors.Image(image), *([tv_tensors.Mask(target)] if target.dim() == 2 else []))
    return transform(*given)


def _kind(thing: object) -> str:
    """Describe what a transform gives."""
    if isinstance(thing, Tensor):
        return f"a tensor of {tuple(thing.shape)} {str(thing.dtype).removeprefix('torch.')}"
    return f"a {type(thing).__name__}"


@contextlib.contextmanager
def _restored_generators() -> Iterator[None]:
    """Restore the global random generators, which transforms draw from."""
    states = torch.default_generator.get_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        torch.default_generator.set_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])


def _seed_generators(seed: int) -> None:
    """Seed the global random generators, but not those of GPUs, which belong to the training."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


def load_transforms(train: str | Transform | None, evaluation: str | Transform | None) -> Transforms | None:
    """Find the user's transforms.

    Args:
        train: The transform for training, or its name ``package.module:thing``; None is the other one.
        evaluation: The transform for everything else, or its name.

    Returns:
        The transforms, not tried yet; None if none is given.

    Raises:
        ValueError: If one cannot be imported or called, or only that for training is given.
    """
    if train is None and evaluation is None:
        return None
    if evaluation is None:
        raise ValueError(
            "there is a transform for training alone: give --eval-transform for val, test and the search, too"
        )
    for_all, its_name = _loaded(evaluation)
    for_training, name = (for_all, its_name) if train is None else _loaded(train)
    return Transforms(for_training, for_all, (name, its_name))


def _loaded(given: str | Transform) -> tuple[Transform, str]:
    """Return a transform and its name."""
    name = given if isinstance(given, str) else getattr(given, "__name__", type(given).__name__)
    if isinstance(given, str):
        attribute = given.partition(":")[2]
        with imported_module(given) as module:
            if not hasattr(module, attribute):
                known = nearest_or_all(module, attribute)
                raise ValueError(f"{module.__name__} has no transform {attribute!r}{known}")
            given = getattr(module, attribute)
    if not callable(given):
        raise ValueError(f"the transform {name} is {_kind(given)}, which cannot be called; give a function")
    return given, name
