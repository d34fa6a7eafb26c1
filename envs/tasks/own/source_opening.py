"""Tell what a user's data set or data loader is, and make a source of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    WeightedRandomSampler,
    default_collate,
    default_convert,
)

from ...io import memory
from ..base import SplitName
from ..read_ahead import default_workers
from .example_sources import Source, TensorSource, joined
from .examples import Fields, Key, Pair, Recipe, Transform, check_shapes, is_batch
from .iterable_source import PREFIX, IterableSource, first_item, naming
from .map_source import MapSource

_ALL = (SequentialSampler, RandomSampler, WeightedRandomSampler, DistributedSampler)
"""Samplers that draw from all examples of a data set."""

_CHANNELS = (1, 3, 4)
"""First sides of tensors that are images."""

REMEDY = "give fewer or smaller examples, a machine with more memory, or in_memory='never'"


@dataclass(frozen=True)
class Options:
    """How examples are read; the arguments of :class:`.loader_task.LoaderTask`."""

    inputs: Key | None = None
    targets: Key | None = None
    train_transform: Transform | None = None
    eval_transform: Transform | None = None
    workers: int | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)

    def fields(self, split: str, item: Any) -> Fields:
        """Find inputs and targets in an example or a batch of a split."""
        return Fields.find(item, split, self.inputs, self.targets)

    def recipes(self, split: str, fields: Fields) -> tuple[Recipe, Recipe]:
        """Return how examples of a split are made for training, and for all else."""
        training = self.train_transform if split == "train" else self.eval_transform
        return Recipe(fields, training), Recipe(fields, self.eval_transform)

    @property
    def transforms(self) -> bool:
        """Whether there are any."""
        return self.train_transform is not None or self.eval_transform is not None


def open_source(split: SplitName, given: Any, options: Options, said: list[str]) -> Source:
    """Make a source of what a user gives for a split.

    Args:
        split: The split.
        given: A data set, a data loader, a list of examples or batches, or an iterator.
        options: How examples are read.
        said: Sentences for the report, to which are added what cannot be kept, and what was counted.

    Raises:
        DataError: If an example cannot be read.
        TypeError: If it gives no examples.
        ValueError: If it is empty, or it is open what its inputs and targets are.
    """
    if isinstance(given, DataLoader) and not isinstance(given.dataset, IterableDataset):
        return _from_loader(split, given, options, said)
    if _is_map_style(given, options, split):
        workers = default_workers() if options.workers is None else options.workers
        return _from_map(split, given, torch.arange(len(given)), options, workers=workers)
    if isinstance(given, Iterator):
        return _read_once(split, given, options)
    return _from_iterable(split, given, options, said)


def transformed(source: Source, transform: Transform) -> Source:
    """Return a source whose examples are transformed so in training; those in memory stay as they are."""
    if not isinstance(source, (MapSource, IterableSource)):
        return source
    return replace(source, training=Recipe(source.training.fields, transform))


def class_names(given: Any, source: Source, key: Key | None) -> tuple[str, ...]:
    """Return the names of the classes that a data set of torchvision or Hugging Face has, else nothing."""
    while isinstance(given, (DataLoader, Subset)):
        given = given.dataset
    if getattr(given, "target_transform", None) is not None:
        return ()
    fields = getattr(getattr(source, "training", None), "fields", None)
    features = getattr(given, "features", None)
    if isinstance(features, Mapping):
        names = [getattr(features.get(name), "names", None) for name in _label_keys(features, fields, key)]
        found = next((one for one in names if one), ())
    else:
        found = getattr(given, "classes", ())
    is_names = isinstance(found, (list, tuple)) and all(isinstance(name, str) for name in found)
    return tuple(found) if is_names else ()


def _label_keys(features: Mapping[str, Any], fields: Fields | None, key: Key | None) -> list[Any]:
    if key is not None:
        return [key]
    if fields is not None and isinstance(fields.targets, str):
        return [fields.targets]
    named = [name for name, feature in features.items() if hasattr(feature, "names")]
    return named if len(named) == 1 else []


def _from_loader(split: SplitName, given: DataLoader[Any], options: Options, said: list[str]) -> Source:
    return _from_map(
        split,
        given.dataset,
        _indices(split, given, said),
        options,
        collate=None if given.collate_fn in (default_collate, default_convert) else given.collate_fn,
        workers=given.num_workers if options.workers is None else options.workers,
        begin=given.worker_init_fn,
    )


def _from_map(
    split: SplitName, data: Any, indices: Tensor, options: Options, *, collate: Any = None, **more: Any
) -> MapSource:
    if not len(indices):
        raise ValueError(f"{split} has no examples; give at least one")
    if collate is not None and options.transforms:
        raise ValueError(
            f"the DataLoader of {split} has a collate_fn of its own, and there are transforms: let one of "
            "them do the other's work"
        )
    unknown = Recipe(Fields(0, 1))
    source = MapSource(split, data, indices, unknown, unknown, collate, **more)
    item = source.raw(0)
    fields = options.fields(split, item if collate is None else collate([item]))
    training, measuring = options.recipes(split, fields)
    return replace(source, training=training, measuring=measuring)


def _indices(split: SplitName, given: DataLoader[Any], said: list[str]) -> Tensor:
    """Return the indices of the examples that a loader's sampler draws from."""
    data: Any = given.dataset
    batched = given.batch_sampler
    sampler: Any = getattr(batched, "sampler", None) or batched or given.sampler
    if isinstance(sampler, _ALL):
        if isinstance(sampler, WeightedRandomSampler):
            said.append(f"{split}: each example comes once an epoch, without the weights of its sampler.")
        return torch.arange(len(data))
    drawn: list[int] = []
    for one in sampler:
        drawn += list(one) if isinstance(one, (list, tuple)) else [int(one)]
        if len(drawn) >= 2 * len(data):  # a sampler without an end
            break
    chosen = torch.tensor(drawn, dtype=torch.int64).unique()
    if len(chosen) < len(drawn):
        said.append(
            f"{split}: its {type(sampler).__name__} gives {len(chosen):,} of {len(data):,} examples, some "
            "more than once; these are used, each once an epoch."
        )
    return chosen


def _is_map_style(given: Any, options: Options, split: str) -> bool:
    """Return whether something gives examples by index; a list may also hold batches."""
    if isinstance(given, (IterableDataset, DataLoader, Mapping, str)):
        return False
    if not hasattr(given, "__getitem__") or not hasattr(given, "__len__"):
        return False
    if isinstance(given, Dataset) or _is_hugging_face(given):
        return True
    if not len(given):
        raise ValueError(f"{split} gives nothing; give at least one example")
    fields = options.fields(split, given[0])
    return _looks_like_example(fields.of(given[0])[0]) or not is_batch(given[0], fields, split, usually=True)


def _looks_like_example(inputs: Any) -> bool:
    """Return whether inputs are an image or a row of numbers, whatever length their targets have."""
    shape = tuple(getattr(inputs, "shape", (0, 0)))
    return len(shape) < 2 or (len(shape) == 3 and shape[0] in _CHANNELS)


def _is_hugging_face(given: Any) -> bool:
    return type(given).__module__.startswith("datasets.")


def _from_iterable(split: SplitName, given: Any, options: Options, said: list[str]) -> IterableSource:
    usually = not isinstance(given, IterableDataset) and not _is_hugging_face(given)
    if isinstance(given, DataLoader):
        usually = given.batch_size is not None
        given = _rebuilt(given)
    item = first_item(split, given)
    fields = options.fields(split, item)
    if not isinstance(given, DataLoader) and _looks_like_example(fields.of(item)[0]):
        usually = False
    batches = is_batch(item, fields, split, usually=usually)
    training, measuring = options.recipes(split, Fields(0, 1) if batches else fields)
    known = options.sizes.get(split)
    size = _length_of(given, fields, batches) if known is None else known
    available = memory.available_memory()
    most = PREFIX * 2**20 if available is None else available // 8
    source = IterableSource(split, given, size or 1, training, measuring, fields, batches).opened(size, most)
    if size is None:
        said.append(f"{split} has no length, so its {len(source):,} examples were counted once.")
    if not source.repeats(0):
        said.append(
            f"{split} gives other examples each time, so a resumed run sees others: seed its shuffling."
        )
    return source


def _length_of(given: Any, fields: Fields, batches: bool) -> int | None:
    """Return the number of examples of an iterable; None if it is unknown."""
    if batches and isinstance(given, (list, tuple)):
        return sum(len(fields.of(batch)[0]) for batch in given)
    if batches and not (isinstance(given, DataLoader) and given.batch_size):
        return None  # the number of batches says little, as the last is often smaller
    try:
        data: Any = given.dataset if isinstance(given, DataLoader) else given
        return len(data)
    except (TypeError, NotImplementedError):
        return None


def _rebuilt(given: DataLoader[Any]) -> DataLoader[Any]:
    """Return the same loader with workers that begin anew each time, and with its last, smaller batch."""
    names = ["num_workers", "worker_init_fn", "batch_size", "collate_fn"]
    if given.num_workers:
        names += ["multiprocessing_context", "prefetch_factor", "timeout"]
    return DataLoader(given.dataset, **{name: getattr(given, name) for name in names})


def _read_once(split: SplitName, given: Iterator[Any], options: Options) -> TensorSource:
    """Read an iterator into memory, as it can be read only once."""
    parts: list[Pair] = []
    read_bytes = count = 0
    fields: Fields | None = None
    while True:
        with naming(f"{split} cannot be read after {count:,} examples"):
            try:
                item = next(given)
            except StopIteration:
                break
            fields = fields or options.fields(split, item)
            recipe = Recipe(fields, options.train_transform or options.eval_transform)
            if recipe.transform is not None:
                raise TypeError("an iterator can be read only once, so give a data set for transforms")
            if is_batch(item, fields, split, usually=True):
                parts.append(recipe.batch(item))
            else:
                parts.append(recipe.stack([recipe.example(item, 0)], split))
        count += len(parts[-1][0])
        read_bytes += sum(part.nbytes for part in parts[-1])
        memory.require_memory(read_bytes, f"the first {count:,} examples of {split}, to be joined,", REMEDY)
    if not parts:
        raise ValueError(f"{split} gives nothing; give at least one example")
    check_shapes(parts, split, axes=1)
    return TensorSource(*joined(parts, count))
