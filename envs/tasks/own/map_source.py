"""Examples of a map-style data set, read by its indices, with worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Self

import torch
from torch import Tensor

from ...modules.randomness import fixed_randomness
from ..data_errors import naming
from ..draws import derived_seed
from ..passes import DataError, spread
from ..read_ahead import read_ahead
from .example_sources import Reading, joined
from .examples import Pair, Recipe, equal, nothing

READ_AT_ONCE = 256
"""Smallest number of examples for which a bounded read starts workers."""

_COMPARED = 64
"""Number of examples that are read twice to see whether a data set augments."""


@dataclass(frozen=True)
class MapSource:
    """Examples of a map-style data set.

    Every example is read with the global generators of torch, NumPy and Python seeded for it, so that a data
    set that augments gives the same example in any order, worker or process.

    Args:
        split: Name of the split, for messages.
        data: The data set: anything with ``__getitem__``.
        indices: Indices of its examples that belong to the split, (N,) int64.
        training: How examples are made for training.
        measuring: How they are made for all else.
        collate: Makes a batch of what the data set gives, such as a ``DataLoader``'s; None stacks.
        workers: Processes that read passes, at least 0.
        begin: Called in each of them with its number, such as a ``DataLoader``'s ``worker_init_fn``.
    """

    split: str
    data: Any
    indices: Tensor
    training: Recipe
    measuring: Recipe
    collate: Callable[[list[Any]], Any] | None = None
    workers: int = 0
    begin: Callable[[int], Any] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def example(self) -> Pair:
        """Input and target of the first example."""
        inputs, targets = self._made(torch.zeros(1, dtype=torch.int64))
        return inputs[0], targets[0]

    def read(self, indices: Tensor, *, augment: bool = False, seed: int = 0) -> Pair:
        """Return some examples; many are read by the workers."""
        indices = indices.cpu()
        if len(indices) < READ_AT_ONCE or not self.workers:
            return self._made(indices, augment=augment, seed=seed)
        return joined(self.stream(Reading.of_examples(indices, augment=augment, seed=seed)), len(indices))

    def stream(self, reading: Reading) -> Iterator[Pair]:
        """Yield this process' examples of each batch, read ahead by the workers."""
        made = partial(self._made, augment=reading.augment, seed=reading.seed, epoch=reading.epoch)
        shares = [share.cpu() for share in reading.shares]
        largest = max(map(len, shares), default=0) * sum(part.nbytes for part in self.example)
        yield from read_ahead(made, shares, self.workers, batch_bytes=largest, begin=self.begin)

    def targets(self) -> Tensor | None:
        """Return the labels that data sets of torchvision and Hugging Face have at hand, if right."""
        found = _labels_at_hand(self.data, self.measuring)
        if found is None or self.collate is not None or len(found) <= int(self.indices.max()):
            return None
        chosen = spread(len(self), 8)
        read = self._made(chosen)[1]
        found = found[self.indices]
        return found if read.dim() == 1 and torch.equal(found[chosen], read.to(found.dtype)) else None

    def to(self, device: torch.device | str) -> Self:
        """Return the same examples, as they are not held."""
        return self

    def changes(self) -> bool:
        """Return whether examples differ each time that they are read, as where a data set augments."""
        for place in spread(len(self), _COMPARED).tolist():
            with naming(f"example {place} of {self.split} cannot be read"):
                first, second = (_seeded(seed, self.data, int(self.indices[place])) for seed in (1, 2))
            if not equal(first, second):
                return True
        return False

    def raw(self, place: int) -> Any:
        """Return an example as the data set gives it.

        Raises:
            DataError: If that fails.
        """
        with naming(f"example {place} of {self.split} cannot be read"):
            return _seeded(0, self.data, int(self.indices[place]))

    def _made(self, indices: Tensor, *, augment: bool = False, seed: int = 0, epoch: int = 0) -> Pair:
        """Read examples, make a batch of them, and name the one that fails."""
        places = indices.tolist()
        if not places:
            return nothing(self.example)
        recipe = self.training if augment else self.measuring
        made, raw = [], []
        for place in places:
            own_seed = derived_seed(seed, epoch, place)
            with naming(f"example {place} of {self.split} cannot be read"):
                item = _seeded(own_seed, self.data, int(self.indices[place]))
                if self.collate is None:
                    made.append(recipe.example(item, own_seed))
                else:
                    raw.append(item)
        if self.collate is None:
            return recipe.stack(made, self.split)
        what = f"the collate_fn of {self.split} fails on the examples {places[0]} to {places[-1]}"
        with naming(what), fixed_randomness(derived_seed(seed, epoch, places[0], len(places))):
            inputs, targets = recipe.batch(self.collate(raw))
        if not len(inputs) == len(targets) == len(places):
            raise DataError(
                f"the collate_fn of {self.split} makes {len(inputs)} inputs and {len(targets)} targets of "
                f"{len(places)} examples; it has to keep their number"
            )
        return inputs, targets


def _seeded(seed: int, data: Any, index: int) -> Any:
    with fixed_randomness(seed):
        return data[index]


def _labels_at_hand(data: Any, recipe: Recipe) -> Tensor | None:
    """Return the labels that a data set has beside its inputs, (N,); None if it has none."""
    labels = getattr(data, "targets", None)
    if labels is None and type(data).__module__.startswith("datasets."):
        column = data.with_format("numpy")
        labels = column[recipe.fields.targets][:] if _is_number(data, recipe.fields.targets) else None
    try:
        found = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        return None
    return found.long() if found.dim() == 1 and not found.is_floating_point() else None


def _is_number(data: Any, name: Any) -> bool:
    return "int" in str(getattr((data.features or {}).get(name), "dtype", ""))
