"""A task from a user's data sets and data loaders of any size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch.utils.data import Dataset

from ...io.ranges import check_whole
from ...io.suggestions import unknown_name
from ..base import SplitName
from ..images.storage import IN_MEMORY, InMemory
from ..passes import DataError
from .example_sources import Source
from .examples import Key, Transform
from .holding import Held, hold_or_stream, memory_note
from .iterable_source import IterableSource
from .source_opening import Options, class_names, open_source, transformed
from .source_task import SourceTask, check_settings

_ORDER: tuple[SplitName, ...] = ("val", "test", "train")
"""Order of reading: what is read again and again is held first."""


class LoaderTask(SourceTask):
    """Prune on data sets and data loaders of any size.

    What fits into memory by far is held there, all else is read whenever it is needed, and the report says
    which. Each of ``train``, ``val`` and ``test`` is one of these:

    * A map-style data set of torch or Hugging Face, or a list of examples. Training takes all examples once
      an epoch, in an order from the run's seed. The global generators of torch, NumPy and Python are seeded
      for each example, so the images of a data set that augments depend on seed, epoch and index alone.
    * A ``DataLoader`` of one. Its data set, ``collate_fn``, ``worker_init_fn`` and number of workers are
      used; its batch size is not. A sampler of one's own decides which examples belong to the split, not how
      often and in which order they come. Random numbers that ``collate_fn`` draws depend on the batch, too.
    * An iterable data set of torch, Hugging Face or webdataset, a ``DataLoader`` of one, or any iterable of
      batches that can be iterated again. A pass reads it in its own order, from the beginning. Statistics
      and candidates use its first examples, at most 4,096, or a random choice of them where it has to be
      counted; see :class:`.iterable_source.IterableSource`.
    * An iterator, which is read into memory.

    Examples and batches are pairs, tuples or dicts of tensors, arrays, PIL images and numbers. Images become
    (C, H, W), and bytes are scaled to [0, 1].

    Args:
        train: Examples for statistics and fine-tuning.
        val: The same for measuring candidates, disjoint from ``train``.
        test: The same for the report, disjoint from both.
        inputs: Key of the inputs in dicts, or their position in tuples; None finds them by their usual names.
        targets: The same for the targets.
        train_transform: Function of an example's input, as the data set gives it, for training, such as one
            of ``torchvision.transforms.v2``; of input and mask together if targets are masks.
        eval_transform: The same for measuring, and for statistics without augmentation.
        in_memory: ``auto`` holds what takes at most a quarter of the memory available, ``always`` all,
            ``never`` nothing.
        sizes: Number of examples of iterables without a length, by split; without it they are counted once.
        workers: Processes that read a map-style data set; by default those of a ``DataLoader``, else one for
            each core. A plain stream is read in the process itself; give a ``DataLoader`` of it for more.
        **settings: Loss, metric and more, as for :class:`.source_task.SourceTask`.

    Raises:
        TypeError: If a part cannot be read.
        ValueError: If a part is empty or an example of it fails, it is open where inputs and targets are,
            shapes differ, or something does not fit into memory that has to.
    """

    def __init__(
        self,
        *,
        train: Iterable[Any] | Dataset[Any],
        val: Iterable[Any] | Dataset[Any],
        test: Iterable[Any] | Dataset[Any],
        inputs: Key | None = None,
        targets: Key | None = None,
        train_transform: Transform | None = None,
        eval_transform: Transform | None = None,
        in_memory: InMemory = "auto",
        sizes: Mapping[str, int] | None = None,
        workers: int | None = None,
        notes: tuple[str, ...] = (),
        **settings: Any,
    ) -> None:
        check_settings(settings)
        if in_memory not in IN_MEMORY:
            raise ValueError(unknown_name("value of in_memory", in_memory, IN_MEMORY))
        if workers is not None:
            check_whole("workers", workers, 0)
        given: dict[SplitName, Any] = {"train": train, "val": val, "test": test}
        for split, size in (sizes or {}).items():
            if split not in given:
                raise ValueError(unknown_name("split in sizes", split, tuple(given)))
            check_whole(f"the size of {split}", size, 1)
        options = Options(inputs, targets, train_transform, eval_transform, workers, sizes or {})
        said: list[str] = []
        found: dict[SplitName, Held] = {}
        opened: dict[SplitName, Source] = {}
        for split in _ORDER:
            try:
                opened[split] = open_source(split, given[split], options, said)
                found[split] = hold_or_stream(split, opened[split], in_memory)
            except DataError as error:
                raise ValueError(str(error)) from error
        sources = {split: found[split].source for split in given}
        names = class_names(train, sources["train"], targets)
        if names:
            settings.setdefault("num_outputs", len(names))
        self.unrepeatable = tuple(  # splits whose examples may be others in another process
            split for split, one in found.items() if one.changes or isinstance(one.source, IterableSource)
        )
        lines = (memory_note({split: found[split] for split in given}), *said)
        super().__init__(sources, notes=(*notes, *lines), **settings)
        if names and len(names) == self.num_outputs:
            self.classes = names
        if train_transform is not None:
            self._val_for_training = transformed(opened["val"], train_transform)
