"""Examples of an iterable: read in its own order, with a few of them held for bounded reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ...modules.randomness import fixed_randomness
from ..data_errors import naming
from ..draws import derived_seed
from ..passes import DataError
from .example_sources import Reading
from .examples import Fields, Pair, Recipe, check_shapes, equal, nothing, number_of_bytes

PREFIX = 4096
"""Largest number of examples that are held for bounded reads."""

_COMPARED = 16
"""Number of examples that are read again to see whether they are the same."""


class _Piece(NamedTuple):
    """Some examples of an item: of a batch those in a range, or the only one."""

    item: Any
    start: int
    stop: int
    is_batch: bool


@dataclass(frozen=True)
class IterableSource:
    """Examples of an iterable of examples or of batches, which can be iterated many times.

    A pass reads from its beginning and gives the examples to the batches in the order in which they come.
    What was taken before an interruption is read again and skipped. Every rank reads all and takes its share.
    The global generators of torch, NumPy and Python are seeded for every item, and ``set_epoch(epoch)`` is
    called where there is one.

    Args:
        split: Name of the split, for messages.
        data: The iterable.
        size: Number of its examples that a pass may read, at least 1.
        training: How examples are made for training.
        measuring: How they are made for all else.
        fields: Where inputs and targets are in what it gives.
        batches: Whether it gives batches. They are taken apart into examples of input and target.
        held: Examples for bounded reads.
    """

    split: str
    data: Any
    size: int
    training: Recipe
    measuring: Recipe
    fields: Fields
    batches: bool
    held: list[Any] = field(default_factory=list)

    def __len__(self) -> int:
        return self.size

    @cached_property
    def example(self) -> Pair:
        """Input and target of one example."""
        inputs, targets = self.read(torch.zeros(1, dtype=torch.int64))
        return inputs[0], targets[0]

    def read(self, indices: Tensor, *, augment: bool = False, seed: int = 0) -> Pair:
        """Return some of the held examples."""
        recipe = self.training if augment else self.measuring
        places = [index % len(self.held) for index in indices.tolist()]
        with naming(f"an example of {self.split} cannot be read"):
            made = [recipe.example(self.held[place], derived_seed(seed, 0, place)) for place in places]
        return recipe.stack(made, self.split) if made else nothing(self.example)

    def stream(self, reading: Reading) -> Iterator[Pair]:
        """Yield this process' examples of each batch."""
        recipe = self.training if reading.augment else self.measuring
        counts = [len(batch) for batch in reading.batches]
        left = counts[reading.first :]
        with Run(self, reading.seed, reading.epoch) as run:
            run.skip(sum(counts[: reading.first]))
            for count, (start, stop) in zip(left, reading.bounds, strict=True):
                run.skip(start)
                yield run.take(stop - start, recipe) if stop > start else nothing(self.example)
                run.skip(count - stop)

    def targets(self) -> None:
        """Return None, as targets are read with their inputs."""

    def to(self, device: torch.device | str) -> Self:
        """Return the same examples, as they are not held."""
        return self

    def opened(self, size: int | None, most_bytes: int) -> Self:
        """Return the source with its size and examples for bounded reads.

        Args:
            size: Number of examples if it is known; None reads all to count them.
            most_bytes: Memory that the held examples may take.

        Raises:
            DataError: If it cannot be read.
            ValueError: If it gives nothing.
        """
        held: list[Any] = []
        places = torch.Generator().manual_seed(0)
        most, count = PREFIX, 0
        with Run(self, 0, 0) as run:
            while size is None or count < min(most, size):
                row = run.row()
                if row is None:
                    break
                if count == 0:
                    most = max(1, min(PREFIX, most_bytes // max(1, number_of_bytes(row))))
                place = count if count < most else int(torch.randint(count + 1, (), generator=places))
                if place < most:
                    held[place : place + 1] = [row]
                count += 1
        if not held:
            raise ValueError(f"{self.split} gives nothing; give at least one example")
        if size is not None and count < min(most, size):
            size = count
        return dataclasses.replace(self, held=held, size=count if size is None else size)

    def raw(self, place: int) -> Any:
        """Return one of the held examples as the data set gives it."""
        return self.held[place % len(self.held)]

    def changes(self) -> bool:
        """Return whether the first examples differ with each seed."""
        return not self.repeats(1)

    def repeats(self, seed: int) -> bool:
        """Return whether its first examples are the same again with a seed; the first run had 0."""
        runs = [self._first_rows(0), self._first_rows(seed)]
        return all(equal(*rows) for rows in zip(*runs, strict=True))

    def _first_rows(self, seed: int) -> list[Any]:
        """Return the first examples; one run ends before another begins, as they may share a state."""
        with Run(self, seed, 0) as run:
            return [run.row() for _ in range(min(_COMPARED, self.size))]


class Run:
    """One run through an iterable, as a context; at its end its workers end.

    Args:
        source: The iterable and where its inputs and targets are.
        seed: Seed of the global generators.
        epoch: Number of the epoch.
    """

    def __init__(self, source: IterableSource, seed: int, epoch: int) -> None:
        self._source, self._seed, self._epoch = source, seed, epoch
        self._items: Any = None
        self._number = self._position = 0
        self._rest: _Piece | None = None

    def __enter__(self) -> Self:
        with naming(self._what):
            self._items = _started(self._source.data, self._seed, self._epoch)
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._items)

    def row(self) -> Any:
        """Return the next example as the data set gives it, or as a pair of tensors; None at the end."""
        pieces = self._pieces(1)
        if not pieces:
            return None
        piece = pieces[0]
        if not piece.is_batch:
            return piece.item
        with naming(self._what):
            return tuple(part[piece.start].clone() for part in piece.item)

    def skip(self, count: int) -> None:
        """Pass over some examples without making them."""
        while count:
            step = min(count, 1024)
            self._need(self._pieces(step), step)
            count -= step

    def take(self, count: int, recipe: Recipe) -> Pair:
        """Make a batch of the next examples.

        Raises:
            DataError: If they cannot be read, or there are fewer.
        """
        position = self._position
        pieces = self._pieces(count)
        self._need(pieces, count)
        blocks: list[Pair] = []
        singles: list[Pair] = []
        with naming(self._what):
            for piece in pieces:
                if piece.is_batch and recipe.transform is None:
                    blocks.append(
                        (piece.item[0][piece.start : piece.stop], piece.item[1][piece.start : piece.stop])
                    )
                    continue
                for k in range(piece.start, piece.stop):
                    item = (piece.item[0][k], piece.item[1][k]) if piece.is_batch else piece.item
                    seed = derived_seed(self._seed, self._epoch, position + len(singles))
                    singles.append(recipe.example(item, seed))
            if singles:
                blocks.append(recipe.stack(singles, self._source.split))
            check_shapes(blocks, self._source.split, axes=1)
            inputs, targets = zip(*blocks, strict=True)
            return torch.cat(inputs), torch.cat(targets)

    def _pieces(self, count: int) -> list[_Piece]:
        """Return the next examples, fewer at the end."""
        found: list[_Piece] = []
        while count:
            piece = self._rest or self._next()
            if piece is None:
                break
            stop = min(piece.stop, piece.start + count)
            found.append(piece._replace(stop=stop))
            self._rest = piece._replace(start=stop) if stop < piece.stop else None
            self._position += stop - piece.start
            count -= stop - piece.start
        return found

    def _next(self) -> _Piece | None:
        """Read the next item."""
        source = self._source
        self._number += 1
        with naming(self._what):
            try:
                with fixed_randomness(derived_seed(self._seed, self._epoch, self._number)):
                    item = next(self._items)
            except StopIteration:
                return None
            if not source.batches:
                return _Piece(item, 0, 1, False)
            inputs, targets = Recipe(source.fields).batch(item)
            return _Piece((inputs, targets), 0, len(inputs), True)

    def _need(self, pieces: list[_Piece], count: int) -> None:
        if sum(piece.stop - piece.start for piece in pieces) < count:
            source = self._source
            raise DataError(
                f"{source.split} ended after {self._position:,} of {source.size:,} examples; give sizes="
                f"{{{source.split!r}: {self._position}}} if there are no more"
            )

    @property
    def _what(self) -> str:
        return f"{self._source.split} cannot be read after {self._position:,} examples"


def first_item(split: str, data: Any) -> Any:
    """Return the first example or batch of an iterable.

    Raises:
        DataError: If it cannot be read.
        ValueError: If there is none.
    """
    with naming(f"{split} cannot be read"):
        items = _started(data, 0, 0)
        try:
            with fixed_randomness(derived_seed(0, 0, 1)):
                return next(items)
        except StopIteration:
            pass
        finally:
            _end(items)
    raise ValueError(f"{split} gives nothing; give at least one example")


def _started(data: Any, seed: int, epoch: int) -> Iterator[Any]:
    """Begin to iterate, with the generators of a seed and an epoch."""
    _set_epoch(data.dataset if isinstance(data, DataLoader) else data, epoch)
    if isinstance(data, DataLoader):  # its workers are seeded from this
        data.generator = torch.Generator().manual_seed(derived_seed(seed, epoch))
    with fixed_randomness(derived_seed(seed, epoch)):
        return iter(data)


def _end(items: Any) -> None:
    """End workers at once, and what a generator has open."""
    for name in ("_shutdown_workers", "close"):
        if callable(end := getattr(items, name, None)):
            end()
            return


def _set_epoch(data: Any, epoch: int) -> None:
    if callable(set_epoch := getattr(data, "set_epoch", None)):
        set_epoch(epoch)
    for stage in getattr(data, "pipeline", ()):  # webdataset's detshuffle counts up before it shuffles
        if isinstance(getattr(stage, "epoch", None), int):
            stage.epoch = epoch - 1
