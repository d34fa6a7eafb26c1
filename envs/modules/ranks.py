"""The processes of ``torch.distributed``: every rank runs the same program in the same order.

Rank 0 alone writes and talks. What could differ between ranks is broadcast from it. In a single process these
functions do nothing.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from ..io.user_code import portable
from .process_group import local_rank

T = TypeVar("T")


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if _is_shared() else 0


def ranks() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if _is_shared() else 1


def is_first() -> bool:
    """Return whether this process is rank 0, which writes and talks."""
    return rank() == 0


def broadcast(thing: T) -> T:
    """Return rank 0's object on every rank; it has to be picklable."""
    if ranks() == 1:
        return thing
    things = [thing]
    distributed.broadcast_object_list(things)
    return things[0]


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors, on the devices that are trained on, by those of rank 0."""
    if ranks() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor.detach(), 0)


def gather(thing: T) -> list[T]:
    """Return the objects of all ranks, in their order, on every rank."""
    if ranks() == 1:
        return [thing]
    things: list[Any] = [None] * ranks()
    distributed.all_gather_object(things, thing)
    return things


def sum_over_ranks(value: float) -> float:
    """Return the sum of a number over all ranks, in float64; the same on every rank."""
    if ranks() == 1:
        return value
    total = torch.tensor([value], dtype=torch.float64, device=_device())
    distributed.all_reduce(total)
    return total.item()


def any_rank(flag: bool) -> bool:
    """Return on every rank whether a flag is set on one of them."""
    return sum_over_ranks(flag) > 0


def barrier() -> None:
    """Wait for all ranks."""
    any_rank(False)


@contextlib.contextmanager
def one_first() -> Iterator[None]:
    """Let one process of each machine run the context first; the others find what it has downloaded."""
    if local_rank():
        barrier()
    try:
        yield
    finally:
        if not local_rank():
            barrier()


def first_decides(function: Callable[[], T]) -> T:
    """Run a function on rank 0 alone, and return its result, or raise its error, on every rank.

    Args:
        function: The function; its result has to be picklable.
    """
    if ranks() == 1:
        return function()
    result, error = None, None
    if is_first():
        try:
            result = function()
        except Exception as raised:
            error = raised
    result, told = broadcast((result, None if error is None else portable(error)))
    if told is not None:
        raise error or told
    return result  # type: ignore[return-value]  # that of rank 0


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Raise an error that a rank meets in the context on every rank, so that all end in the same way.

    Inside, ranks may do different things, but must not wait for each other.
    """
    if ranks() == 1:
        yield
        return
    own: Exception | None = None
    try:
        yield
    except Exception as raised:
        own = raised
    if any_rank(own is not None):
        errors = gather(None if own is None else portable(own))
        raise own or next(error for error in errors if error is not None)


def in_unison(things: Iterable[T]) -> Iterator[T]:
    """Yield from an iterable that is as long on every rank; its error on one rank is raised on all."""
    iterator = iter(things)
    while True:
        with together():
            found = list(itertools.islice(iterator, 1))
        if not found:
            return
        yield from found


def _device() -> str:
    """Return a device whose tensors the ranks can exchange."""
    return "cpu" if "gloo" in str(distributed.get_backend_config()) else "cuda"


def _is_shared() -> bool:
    return distributed.is_available() and distributed.is_initialized()
