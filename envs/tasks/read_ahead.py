"""Read batches ahead of their use in other processes: torch's DataLoader, with errors of one line."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..io.memory import return_freed_memory
from .passes import DataError

Batch = tuple[Tensor, Tensor]
T = TypeVar("T")

_MOST_WORKERS = 16
_AHEAD = 2
"""Batches that each process reads ahead."""

_FORK = "fork" if sys.platform == "linux" else None
"""How processes start: a fork takes milliseconds in each epoch, other ways import torch and copy the paths.
None is the system's way."""

_SHARED = Path("/dev/shm")
"""Where Linux keeps memory that processes share; a container often has 64 MB of it."""


class _Fault(NamedTuple):
    """An error of another process, as data: an exception would arrive with that process's traceback."""

    message: str


class _Batches(Dataset[Batch | _Fault]):
    """Batches by the indices of their examples.

    Args:
        prepare: Reads the examples with these indices, (B,) int64.
    """

    def __init__(self, prepare: Callable[[Tensor], Batch]) -> None:
        self._prepare = prepare

    def __getitem__(self, indices: list[int]) -> Batch | _Fault:
        try:
            return self._prepare(torch.tensor(indices, dtype=torch.int64))
        except DataError as error:
            return _Fault(str(error))


def default_workers() -> int:
    """Return how many processes read data: a core each, but for one that trains; at least 1, at most 16.

    Processes of ``torchrun`` on one machine share its cores.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST_WORKERS, usable // local_ranks() - 1))


def local_ranks() -> int:
    """Return how many processes of ``torchrun`` run on this machine."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def read_ahead(
    prepare: Callable[[Tensor], Batch],
    shares: Sequence[Tensor],
    workers: int,
    *,
    batch_bytes: int = 0,
    is_pinned: bool = False,
    begin: Callable[[int], object] | None = None,
) -> Iterator[Batch]:
    """Yield batches in order while others are read.

    The processes end with the iterator. The global random generators are left alone.

    Args:
        prepare: Reads the examples with some indices, (B,) int64; it has to be picklable where processes are
            not forked.
        shares: Indices of each batch, (B,) int64.
        workers: Processes that read, at least 0; 0 reads in this one. They are fewer if the batches read
            ahead would not fit into shared memory.
        batch_bytes: Bytes of a batch.
        is_pinned: Whether batches are put into memory from which a GPU copies fast.
        begin: Called in each process that reads, with its number; it has to be picklable like ``prepare``.

    Raises:
        DataError: If an example cannot be read, or a process is killed.
    """
    workers = min(workers, len(shares), _shared_memory() // max(1, (_AHEAD + 1) * batch_bytes))
    with _no_signals_of_children():
        iterator = iter(_loader(prepare, shares, workers, begin, is_pinned=is_pinned))
    try:
        while (batch := _next(iterator)) is not None:
            if isinstance(batch, _Fault):
                raise DataError(batch.message)
            yield batch
    finally:
        if workers:
            iterator._shutdown_workers()  # type: ignore[attr-defined]  # at once, not with the last reference


def _loader(
    prepare: Callable[[Tensor], Batch],
    shares: Sequence[Tensor],
    workers: int,
    begin: Callable[[int], object] | None,
    *,
    is_pinned: bool,
) -> DataLoader[Batch | _Fault]:
    return DataLoader(
        _Batches(prepare),
        batch_size=None,
        sampler=(share.tolist() for share in shares),  # iterated once
        collate_fn=_unchanged,
        num_workers=workers,
        multiprocessing_context=_FORK if workers else None,
        prefetch_factor=_AHEAD if workers else None,
        worker_init_fn=partial(_begin_worker, begin),
        pin_memory=is_pinned,
        generator=torch.Generator(),  # else it would draw a seed from the global one
    )


@contextlib.contextmanager
def _no_signals_of_children() -> Iterator[None]:
    """Keep torch from raising an error wherever the main process is when a reading process dies.

    :func:`_next` finds it out within some seconds.
    """
    is_main = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD")
    before = signal.getsignal(signal.SIGCHLD) if is_main else None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGCHLD, before)


def _next(iterator: Iterator[Batch | _Fault]) -> Batch | _Fault | None:
    """Return the next batch; None after the last one."""
    try:
        return next(iterator, None)
    except (RuntimeError, EOFError, OSError) as error:  # all but the first while a batch was handed over
        if isinstance(error, RuntimeError) and "exited unexpectedly" not in str(error):
            raise
        raise DataError(
            "a process that reads the data was killed, perhaps as memory ran out: give fewer workers, or "
            "smaller images (--image-size)"
        ) from error


def _begin_worker(begin: Callable[[int], object] | None, number: int) -> None:
    """Leave Ctrl-C to the main process and its objects uncopied, and keep no memory of batches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    return_freed_memory()
    if begin is not None:
        begin(number)


def _unchanged(batch: T) -> T:
    return batch


def _shared_memory() -> int:
    """Return the bytes of shared memory that are free; without a limit of its own, a very large number."""
    return shutil.disk_usage(_SHARED).free if _SHARED.is_dir() else 2**62
