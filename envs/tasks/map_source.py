"""Examples of a map-style data set, read by its indices, with worker processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..io.memory import is_out_of_memory
from ..io.untrusted import with_type
from ..modules.randomness import fixed_randomness
from .draws import derived_seed
from .examples import Pair, Recipe, equal, nothing
from .passes import DataError
from .sources import Reading, joined, spread

READ_AT_ONCE = 256
"""Smallest number of examples for which a bounded read starts workers."""

_COMPARED = 64
"""Number of examples that are read twice to see whether a data set augments."""


@dataclass(frozen=True)
class Fault:
    """An error while reading, as a worker hands it over: a traceback would be printed, and its type lost."""

    line: str


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
        settings: Arguments of the ``DataLoader`` that reads passes, such as ``num_workers``.
    """

    split: str
    data: Any
    indices: Tensor
    training: Recipe
    measuring: Recipe
    collate: Callable[[list[Any]], Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

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
        if len(indices) < READ_AT_ONCE or not self.settings.get("num_workers"):
            return self._made(indices, augment=augment, seed=seed)
        return joined(self.stream(Reading.of_examples(indices, augment=augment, seed=seed)), len(indices))

    def stream(self, reading: Reading) -> Iterator[Pair]:
        """Yield this process' examples of each batch, read ahead by the workers."""
        reader = _Reader(self, reading.augment, reading.seed, reading.epoch)
        shares = [share.tolist() for share in reading.shares]
        loader = DataLoader(
            reader,
            batch_sampler=list(filter(None, shares)),
            collate_fn=_as_it_is,
            generator=torch.Generator().manual_seed(derived_seed(reading.seed, reading.epoch)),
            **self.settings,
        )
        batches = iter(loader)
        try:
            for share in shares:
                yield _sound(_next(batches, self.split)) if share else nothing(self.example)
        finally:
            _end(batches)

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
            first, second = (_seeded(seed, self.data, int(self.indices[place])) for seed in (1, 2))
            if not equal(first, second):
                return True
        return False

    def raw(self, place: int) -> Any:
        """Return an example as the data set gives it.

        Raises:
            DataError: If that fails.
        """
        try:
            return _seeded(0, self.data, int(self.indices[place]))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise DataError(_line(self.split, place, error)) from error

    def _made(self, indices: Tensor, *, augment: bool = False, seed: int = 0) -> Pair:
        if not len(indices):
            return nothing(self.example)
        return _sound(_Reader(self, augment, seed, 0).__getitems__(indices.tolist()))


class _Reader(Dataset[Any]):
    """Make batches of examples in a worker."""

    def __init__(self, source: MapSource, augment: bool, seed: int, epoch: int) -> None:
        self._source = dataclasses.replace(source, settings={})  # which may not be picklable
        self._augment, self._seed, self._epoch = augment, seed, epoch

    def __getattr__(self, name: str) -> Any:
        """Return what a ``worker_init_fn`` looks for in the data set."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._source.data, name)

    def __len__(self) -> int:
        return len(self._source)

    def __getitems__(self, places: Sequence[int]) -> Pair | Fault:
        """Return the batch of some examples, or what was wrong."""
        source, place = self._source, -1
        recipe = source.training if self._augment else source.measuring
        try:
            read = []
            for place in places:
                seed = derived_seed(self._seed, self._epoch, place)
                item = _seeded(seed, source.data, int(source.indices[place]))
                read.append(item if source.collate is not None else recipe.example(item, seed))
            if source.collate is None:
                return recipe.stack(read, source.split)
            with fixed_randomness(derived_seed(self._seed, self._epoch, *places[:1], len(places))):
                inputs, targets = recipe.batch(source.collate(read))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return Fault(_line(source.split, place, error))
        if len(inputs) != len(targets) or len(inputs) != len(places):
            return Fault(
                f"the collate_fn of {source.split} makes {len(inputs)} inputs and {len(targets)} targets of "
                f"{len(places)} examples; it has to keep their number"
            )
        return inputs, targets


def _seeded(seed: int, data: Any, index: int) -> Any:
    with fixed_randomness(seed):
        return data[index]


def _as_it_is(batch: Any) -> Any:
    return batch


def _sound(batch: Pair | Fault) -> Pair:
    if isinstance(batch, Fault):
        raise DataError(batch.line)
    return batch


def _next(batches: Iterator[Any], split: str) -> Any:
    try:
        return next(batches)
    except RuntimeError as error:  # as if a worker is killed
        if is_out_of_memory(error):
            raise
        raise DataError(f"{split} cannot be read ({with_type(error)})") from error


def _end(batches: Any) -> None:
    """End the workers at once, also while an error is handled that still refers to them."""
    if (shut_down := getattr(batches, "_shutdown_workers", None)) is not None:
        shut_down()


def _line(split: str, place: int, error: Exception) -> str:
    if isinstance(error, DataError):
        return str(error)
    return f"example {place} of {split} cannot be read ({with_type(error)})"


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
