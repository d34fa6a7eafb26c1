"""The processes of ``torch.distributed``: every rank runs the same program in the same order.

Rank 0 alone writes and talks. What could differ between ranks is broadcast from it. In a single process these
functions do nothing.
"""

from typing import Any, TypeVar

from torch import distributed

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


def gather(thing: T) -> list[T]:
    """Return the objects of all ranks, in their order, on every rank."""
    if ranks() == 1:
        return [thing]
    things: list[Any] = [None] * ranks()
    distributed.all_gather_object(things, thing)
    return things


def any_rank(flag: bool) -> bool:
    """Return on every rank whether a flag is set on one of them."""
    return any(gather(flag))


def barrier() -> None:
    """Wait for all ranks."""
    if ranks() > 1:
        distributed.barrier()


def _is_shared() -> bool:
    return distributed.is_available() and distributed.is_initialized()
