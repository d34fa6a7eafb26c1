"""Whether examples are held in memory, and how they are read into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image

from ...io import memory
from ...modules.process_group import join
from ...modules.ranks import any_rank
from ..base import SplitName
from ..images.storage import BY_FAR, InMemory
from ..passes import spread
from ..read_ahead import local_ranks
from .example_sources import Reading, Source, TensorSource, joined
from .examples import Fields, number_of_bytes
from .iterable_source import IterableSource, Run
from .map_source import READ_AT_ONCE, MapSource
from .source_opening import REMEDY

_WEIGHED = 16
"""Number of examples from which the memory of all is estimated."""


@dataclass(frozen=True)
class Held:
    """A source, held in memory or not.

    Args:
        source: The source.
        bytes: Memory that all of its examples take.
        is_held: Whether they are in memory.
        changes: Whether they differ each time that they are read.
    """

    source: Source
    bytes: int
    is_held: bool
    changes: bool = False


def hold_or_stream(split: SplitName, source: Source, in_memory: InMemory) -> Held:
    """Read the examples of a split into memory if they fit by far, or it is asked for.

    Args:
        split: The split.
        source: Its examples.
        in_memory: ``auto``, ``always`` or ``never``.

    Raises:
        DataError: If an example cannot be read.
        ValueError: If they have to be held, but do not fit, or differ each time.
    """
    if not isinstance(source, (MapSource, IterableSource)):
        return Held(source, sum(part.nbytes for part in (source.inputs, source.labels)), True)  # type: ignore[attr-defined]
    needed = _needed(source)
    if in_memory == "never" or (in_memory == "auto" and not _fits_by_far(needed)):
        return Held(source, needed, False)
    memory.require_memory(needed, f"the {len(source):,} examples of {split}", REMEDY)
    if source.changes():
        if in_memory == "always":
            raise ValueError(
                f"the examples of {split} differ each time that they are read, so they cannot be held in "
                "memory; give in_memory='auto', or augment with train_transform alone"
            )
        return Held(source, needed, False, True)
    if isinstance(source, IterableSource):
        source = replace(source, held=source.held[:1])  # frees what would be in memory twice
    return Held(_held(source), needed, True)


def memory_note(found: Mapping[SplitName, Held]) -> str:
    """Say which splits are held in memory and which are read when they are needed."""
    sentences = []
    for how, is_held in (("In memory", True), ("Streamed", False)):
        parts = [
            f"{split} {memory.size(one.bytes)}" + (" (it augments or shuffles)" if one.changes else "")
            for split, one in found.items()
            if one.is_held == is_held
        ]
        if parts:
            sentences.append(f"{how}: {', '.join(parts)}.")
    for split, one in found.items():
        few = len(one.source.held) if isinstance(one.source, IterableSource) else len(one.source)
        if few < len(one.source):
            sentences.append(f"Statistics and candidates use {few:,} of the examples of {split}.")
    return " ".join(sentences)


def _fits_by_far(needed: int) -> bool:
    """Return whether all ranks have the memory: they have to read a stream alike."""
    join()  # a script of the user's may make its task before anything else
    available = memory.available_memory()
    return not any_rank(available is not None and needed * local_ranks() * BY_FAR > available)


def _needed(source: MapSource | IterableSource) -> int:
    """Estimate the memory of all examples from a few: without transforms as tensors, else as they are."""
    chosen = spread(len(source), _WEIGHED)
    if _is_plain(source):
        parts = source.read(chosen)
        return sum(part.nbytes for part in parts) * len(source) // len(chosen)
    fields = source.training.fields
    rows = [source.raw(place) for place in chosen.tolist()]
    return sum(number_of_bytes(fields.of(row)) for row in rows) * len(source) // len(chosen)


def _is_plain(source: MapSource | IterableSource) -> bool:
    return source.training.transform is None and source.measuring.transform is None


def _held(source: MapSource | IterableSource) -> Source:
    every = torch.arange(len(source))
    workers = source.workers if isinstance(source, MapSource) else 0
    if isinstance(source, MapSource) and len(source) < READ_AT_ONCE:  # sooner read than workers start
        source = replace(source, workers=0)
    if _is_plain(source):
        return TensorSource(*joined(source.stream(Reading.of_examples(every)), len(source)))
    rows = [_loaded(source.training.fields.of(row)) for row in _rows(source)]
    pair = Fields(0, 1)
    return MapSource(
        source.split,
        rows,
        every,
        replace(source.training, fields=pair),
        replace(source.measuring, fields=pair),
        workers=workers,
    )


def _rows(source: MapSource | IterableSource) -> Iterator[Any]:
    """Yield every example as the data set gives it."""
    if isinstance(source, MapSource):
        yield from (source.raw(k) for k in range(len(source)))
        return
    with Run(source, 0, 0) as run:
        for _ in range(len(source)):
            yield run.row()


def _loaded(row: tuple[Any, Any]) -> tuple[Any, Any]:
    """Read images whose files are still open."""
    for value in row:
        if isinstance(value, Image.Image):
            value.load()
    return row
