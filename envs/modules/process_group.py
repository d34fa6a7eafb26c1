"""Join the processes that torchrun has started, and end them all with one message.

Torch is imported where it is used: a process alone needs none here.
"""

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

_SPEAKERS = "secateur: ranks that would report a failure"
"""Their number in the store of the processes."""


class FailedElsewhereError(Exception):
    """Another rank reports the failure; this one ends without a word."""


class LostRankError(RuntimeError):
    """Another rank has ended without a word."""


def is_launched() -> bool:
    """Return whether this process is one of several that torchrun, or another launcher, has started."""
    return all(name in os.environ for name in _VARIABLES) and int(os.environ["WORLD_SIZE"]) > 1


def local_rank() -> int:
    """Return the number of this process on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", 0))


def join() -> Any:
    """Join the other processes if there are any, until the end of this one.

    Returns:
        The key-value store of the processes. None if this is the only process, or the program has joined them
        itself.
    """
    if not is_launched():
        return None
    import torch
    from torch import distributed

    if distributed.is_initialized():
        return None
    has_gpus = torch.cuda.is_available() and distributed.is_nccl_available()
    if has_gpus and local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(local_rank())
    store, rank, ranks = next(distributed.rendezvous("env://"))
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if has_gpus else "gloo",
        store=distributed.PrefixStore("secateur", store),
        rank=rank,
        world_size=ranks,
    )
    atexit.register(_leave)
    return store


def _leave() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Join the other processes in the context. A failure of one ends all, and one of them reports it.

    Raises:
        FailedElsewhereError: If the context fails on this rank and another one reports it.
        LostRankError: If another rank has ended without a word, and this one is to report it.
    """
    store = join()
    if store is None:
        yield
        return
    try:
        yield
    except BaseException as error:
        if not _is_speaker(store):
            raise FailedElsewhereError from error
        if is_lost_connection(error):
            raise LostRankError(
                "another process of the run ended without a word, as one that is killed does; go on with "
                "`secateur resume` and the folder of the run"
            ) from error
        raise
    _leave()


def _is_speaker(store: Any) -> bool:
    """Return whether this rank reports a failure: the first one that fails does.

    The others lose their connections to it only when it has ended, and then find that it has spoken.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends the others when one has ended
    try:
        return bool(store.add(_SPEAKERS, 1) == 1)
    except Exception:  # the store has gone with the process that had it
        return True


def is_lost_connection(error: BaseException) -> bool:
    """Return whether an error means that another rank has ended."""
    from torch import distributed

    text = str(error).lower()
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and ("gloo" in text or "nccl" in text)
    )
