"""Sizes that forward code reads from its module, found while tracing so that a cut can adapt them.

Forward code like ``torch.split(x, self.width, 1)`` does not adapt to a smaller ``x`` by itself. If an
attribute of the running module equals a size that it passed to an operation, we assume that it is that size.
The check of every cut finds wrong assumptions.

Shapes: L layers.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch import nn

from ..modules.sizes import follows_its_weight
from .labels import LabelVector
from .network import Size


class SizeRecord(NamedTuple):
    """Sizes that a module passed to an operation, each as the labels that it counts or as a fixed number."""

    module: str
    sizes: tuple[LabelVector | int, ...]


def find_sizes(
    size_records: Iterable[SizeRecord],
    owner: LabelVector,
    widths: LabelVector,
    model: nn.Module,
) -> tuple[Size, ...]:
    """Find the attributes that hold a recorded size.

    Args:
        size_records: The recorded sizes.
        owner: The layer of each label, -1 for labels that stay.
        widths: Filters of each layer, shape (L,).
        model: The traced network.

    Returns:
        One entry for each attribute that a cut can change.
    """
    found: dict[tuple[str, str], Size] = {}
    # A single size comes first: an integer is more likely the size of one slice than one of several sizes.
    for record in sorted(size_records, key=lambda record: len(record.sizes) > 1):
        if follows_its_weight(model.get_submodule(record.module)):
            continue
        for attribute, sizes in _matches(model.get_submodule(record.module), record.sizes):
            fixed = np.zeros(len(sizes), np.int64)
            slope = np.zeros((len(sizes), len(widths)), np.int64)
            for position, size in enumerate(sizes):
                if isinstance(size, int):
                    fixed[position] = size
                    continue
                owners = owner[size]
                fixed[position] = (owners < 0).sum()
                slope[position] = np.bincount(owners[owners >= 0], minlength=len(widths)) // widths
            if slope.any():
                scalar = isinstance(getattr(model.get_submodule(record.module), attribute), int)
                found.setdefault(
                    (record.module, attribute), Size(record.module, attribute, fixed, slope, scalar)
                )
    return tuple(found.values())


def _matches(
    module: nn.Module, sizes: Sequence[LabelVector | int]
) -> Iterator[tuple[str, Sequence[LabelVector | int]]]:
    """Yield attributes with the sizes that they hold: one labelled size, all sizes, or the last of them."""
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
