"""Sizes that forward code reads from its module: found while tracing, so that a cut can bring them along.

Forward code like ``torch.split(x, self.width, 1)`` does not adapt to a smaller ``x`` by itself. An attribute
of the running module that equals a size it gave to an operation is taken to be that size; trying a cut tells.

Shapes: L layers.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch import nn

from ..modules.sizes import follows_its_weight
from .labels import LabelVector
from .network import Size


class Measure(NamedTuple):
    """Sizes that a module gave to an operation, each as the labels that were counted or as a fixed number."""

    module: str
    sizes: tuple[LabelVector | int, ...]


def find_sizes(
    measures: Iterable[Measure],
    owner: LabelVector,
    widths: LabelVector,
    model: nn.Module,
) -> tuple[Size, ...]:
    """Look for the attributes that hold a measured size.

    Args:
        measures: What was measured.
        owner: The layer of each label, -1 where it stays.
        widths: Filters of each layer, shape (L,).
        model: The traced network.

    Returns:
        One entry an attribute, and only for those that a cut can change.
    """
    found: dict[tuple[str, str], Size] = {}
    # One number is rather the size of a slice than of a piece among several, of which a list holds all.
    for measure in sorted(measures, key=lambda measure: len(measure.sizes) > 1):
        if follows_its_weight(model.get_submodule(measure.module)):
            continue
        for attribute, sizes in _matches(model.get_submodule(measure.module), measure.sizes):
            fixed = np.zeros(len(sizes), np.int64)
            slope = np.zeros((len(sizes), len(widths)), np.int64)
            for place, size in enumerate(sizes):
                if isinstance(size, int):
                    fixed[place] = size
                    continue
                owners = owner[size]
                fixed[place] = (owners < 0).sum()
                slope[place] = np.bincount(owners[owners >= 0], minlength=len(widths)) // widths
            if slope.any():
                scalar = isinstance(getattr(model.get_submodule(measure.module), attribute), int)
                found.setdefault(
                    (measure.module, attribute), Size(measure.module, attribute, fixed, slope, scalar)
                )
    return tuple(found.values())


def _matches(
    module: nn.Module, sizes: Sequence[LabelVector | int]
) -> Iterator[tuple[str, Sequence[LabelVector | int]]]:
    """Pair attributes that hold all or the last of the sizes, or one labelled size, with what they hold."""
    numbers = [size if isinstance(size, int) else len(size) for size in sizes]
    for name, value in vars(module).items():
        if name.startswith("_") or isinstance(value, bool):
            continue
        if isinstance(value, int):
            for size in sizes:
                if not isinstance(size, int) and len(size) == value:
                    yield name, [size]
                    break
        elif isinstance(value, list | tuple) and len(value) > 0 and list(value) == numbers[-len(value) :]:
            yield name, sizes[-len(value) :]
