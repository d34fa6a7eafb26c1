"""Where a user's examples come from, and what a process reads of them.

A source gives examples in two ways: a few by their indices, for statistics and candidates, and a whole pass
in order, for fine-tuning and measuring.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from ..passes import Pass
from .examples import Pair

_BATCH = 64
"""Examples of a batch of :meth:`Reading.of_examples`."""


@dataclass(frozen=True)
class Reading:
    """What one process reads of one part of the data in a pass: a slice of each batch.

    Args:
        batches: Indices of the examples of each batch, of all processes together, (B,) int64.
        bounds: First index of the slice in each batch that is left, and the one after its last.
        first: Number of batches that were taken before.
        augment: Whether to transform as in training.
        seed: Seed of random transforms, together with the epoch and the index of an example.
        epoch: Number of the epoch, from 0.
    """

    batches: Sequence[Tensor]
    bounds: Sequence[tuple[int, int]]
    first: int = 0
    augment: bool = False
    seed: int = 0
    epoch: int = 0

    @classmethod
    def of(cls, passed: Pass) -> Self:
        """Return what this process reads in a pass; in turn, nothing of the batches of others."""
        if passed.in_turn:
            left = enumerate(passed.batches[passed.first :])
            turns = [(0, len(batch) if k % passed.ranks == passed.rank else 0) for k, batch in left]
            return cls(passed.batches, turns, passed.first, passed.augment, passed.seed, passed.epoch)
        bounds = []
        for batch, share in zip(passed.batches[passed.first :], passed.shares, strict=True):
            before = sum(len(part) for part in batch.tensor_split(passed.ranks)[: passed.rank])
            first = min(before, len(batch) - len(share))  # of a small batch the last ranks get the first one
            bounds.append((first, first + len(share)))
        return cls(passed.batches, bounds, passed.first, passed.augment, passed.seed, passed.epoch)

    @classmethod
    def of_examples(cls, indices: Tensor, *, augment: bool = False, seed: int = 0) -> Self:
        """Return a reading of some examples, in batches."""
        batches = indices.split(_BATCH)
        return cls(batches, [(0, len(part)) for part in batches], augment=augment, seed=seed)

    @property
    def shares(self) -> list[Tensor]:
        """Indices of the examples of each slice; there may be none."""
        return [batch[a:b] for batch, (a, b) in zip(self.batches[self.first :], self.bounds, strict=True)]

    def of_part(self, part: range) -> Reading:
        """Return what is read of the examples with some indices; these are counted from 0 then."""
        inside = [(batch >= part.start) & (batch < part.stop) for batch in self.batches]
        batches = [batch[here] - part.start for batch, here in zip(self.batches, inside, strict=True)]
        bounds = [
            (int(here[:a].sum()), int(here[:b].sum()))
            for here, (a, b) in zip(inside[self.first :], self.bounds, strict=True)
        ]
        return replace(self, batches=batches, bounds=bounds)


class Source(Protocol):
    """Examples of a split. Pixels stay bytes until a task scales them."""

    @property
    def example(self) -> Pair:
        """Input and target of one example, as tensors."""

    def __len__(self) -> int: ...

    def read(self, indices: Tensor, *, augment: bool, seed: int) -> Pair:
        """Return some examples.

        Args:
            indices: Their indices, (B,) int64.
            augment: Whether to transform as in training.
            seed: Seed of random transforms.
        """

    def stream(self, reading: Reading) -> Iterator[Pair]:
        """Yield this process' examples of each batch that is left.

        Raises:
            DataError: If they cannot be read.
        """

    def targets(self) -> Tensor | None:
        """Return all targets, (N, ...); None if that takes reading the inputs."""

    def to(self, device: torch.device | str) -> Self:
        """Return the same examples, on a device if they are held as tensors."""


@dataclass(frozen=True)
class TensorSource:
    """Examples held as tensors.

    Args:
        inputs: Inputs (N, ...).
        labels: Targets (N, ...).
    """

    inputs: Tensor
    labels: Tensor

    @property
    def example(self) -> Pair:
        """Input and target of the first example."""
        return self.inputs[0], self.labels[0]

    def __len__(self) -> int:
        return len(self.inputs)

    def read(self, indices: Tensor, *, augment: bool = False, seed: int = 0) -> Pair:
        """Return some examples; they are not transformed."""
        indices = indices.to(self.inputs.device)
        return self.inputs[indices], self.labels[indices]

    def stream(self, reading: Reading) -> Iterator[Pair]:
        """Yield this process' examples of each batch."""
        for share in reading.shares:
            yield self.read(share)

    def targets(self) -> Tensor:
        """Return all targets."""
        return self.labels

    def to(self, device: torch.device | str) -> Self:
        """Return the same examples on a device."""
        return type(self)(self.inputs.to(device), self.labels.to(device))


@dataclass(frozen=True)
class JoinedSource:
    """Two sources one after the other, such as train and val.

    Args:
        first: The one whose examples have the first indices.
        second: The other one.
    """

    first: Source
    second: Source

    @property
    def example(self) -> Pair:
        """Input and target of one example."""
        return self.first.example

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def read(self, indices: Tensor, *, augment: bool = False, seed: int = 0) -> Pair:
        """Return some examples."""
        indices = indices.cpu()
        of_first = indices < len(self.first)
        parts = [
            source.read(chosen, augment=augment, seed=seed) if len(chosen) else None
            for source, chosen in (
                (self.first, indices[of_first]),
                (self.second, indices[~of_first] - len(self.first)),
            )
        ]
        return _in_order(of_first, *parts)

    def stream(self, reading: Reading) -> Iterator[Pair]:
        """Yield this process' examples of each batch, read from both."""
        middle = len(self.first)
        one_after_other = (
            self.first.stream(reading.of_part(range(middle))),
            self.second.stream(reading.of_part(range(middle, len(self)))),
        )
        for share, one, other in zip(reading.shares, *one_after_other, strict=True):
            yield _in_order(share.cpu() < middle, one, other)

    def targets(self) -> Tensor | None:
        """Return all targets, if both have them."""
        first, second = self.first.targets(), self.second.targets()
        return None if first is None or second is None else torch.cat([first, second.to(first.device)])

    def to(self, device: torch.device | str) -> Self:
        """Return the same examples, on a device if they are held as tensors."""
        return type(self)(self.first.to(device), self.second.to(device))


def _in_order(of_first: Tensor, first: Pair | None, second: Pair | None) -> Pair:
    """Join two parts of a batch in the order of its examples."""
    if first is None or second is None:
        found = second if first is None else first
        assert found is not None
        return found
    inputs, targets = (torch.cat([a, b.to(a.device)]) for a, b in zip(first, second, strict=True))
    places = torch.empty(len(of_first), dtype=torch.int64)
    places[of_first] = torch.arange(len(first[0]))
    places[~of_first] = torch.arange(len(second[0])) + len(first[0])
    places = places.to(inputs.device)
    return inputs[places], targets[places]


def joined(parts: Iterator[Pair] | list[Pair], count: int) -> Pair:
    """Join batches into tensors made beforehand; each batch is freed then.

    Args:
        parts: The batches; a list is emptied.
        count: Number of their examples.
    """
    batches = iter(parts) if not isinstance(parts, list) else (parts.pop(0) for _ in range(len(parts)))
    inputs = targets = torch.empty(0)
    done = 0
    for x, y in batches:
        if not done:
            inputs, targets = x.new_empty((count, *x.shape[1:])), y.new_empty((count, *y.shape[1:]))
        inputs[done : done + len(x)], targets[done : done + len(y)] = x, y
        done += len(x)
    return inputs, targets
