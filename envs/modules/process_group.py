"""Join the processes that torchrun has started, and end them all with one message.

Torch is imported where it is used: a process alone needs none here.
"""

import atexit
import contextlib
import gc
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

_PATIENCE = 5.0
"""Seconds for which a failed rank waits for the others to end, too."""

_SPEAKERS, _ENDED = "secateur: ranks that report a failure", "secateur: ranks that have ended"


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
        if not _is_speaker(store, error):
            raise FailedElsewhereError from error
        if _is_lost_connection(error):
            raise LostRankError(
                "another process of the run ended without a word, as one that is killed does; go on with "
                "`secateur resume` and the folder of the run"
            ) from error
        raise
    _leave()
    store.add(_ENDED, 1)


def _is_speaker(store: Any, error: BaseException) -> bool:
    """End the connections after a failure, and wait for the others; return whether this rank reports it.

    The first rank that fails reports. The others lose their connections to it only after that.
    """
    from torch import distributed

    ranks = distributed.get_world_size() if distributed.is_initialized() else 0
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends the others when one has ended
    is_speaker = True
    with contextlib.suppress(Exception):  # the store may have gone with the process that had it
        is_speaker = store.add(_SPEAKERS, 1) == 1
        _disconnect(error)
        until = time.monotonic() + _PATIENCE
        ended = store.add(_ENDED, 1)
        while ended < ranks and time.monotonic() < until:
            time.sleep(0.05)
            ended = store.add(_ENDED, 0)
    return is_speaker


def _disconnect(error: BaseException) -> None:
    """End the connections to the other ranks, which a network in training holds, too."""
    failed: BaseException | None = error
    while failed is not None:
        traceback.clear_frames(failed.__traceback__)
        failed = failed.__context__
    gc.collect()
    _leave()


def _is_lost_connection(error: BaseException) -> bool:
    from torch import distributed

    text = str(error).lower()
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and ("gloo" in text or "nccl" in text)
    )
