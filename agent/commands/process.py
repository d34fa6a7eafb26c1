"""Settings of the process: threads and output."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...envs.modules.process_group import is_launched

if TYPE_CHECKING:
    from ...envs.tracing import TracedNetwork

_ONE_THREAD_MACS = 10_000_000
"""Networks with fewer MACs per image run on one thread."""


def choose_threads(network: "TracedNetwork") -> None:
    """Use one thread for a small network, unless OMP_NUM_THREADS is set.

    Two epochs of the demo CNN take 0.25 s on one core and 0.18 s on two. But beside a busy process, two
    threads wait for each other: thirty epochs took seven minutes instead of four seconds.
    """
    import torch  # here, as some verbs do not need torch

    from ...envs.cost.counts import cost

    if "OMP_NUM_THREADS" not in os.environ and cost(network).macs < _ONE_THREAD_MACS:
        torch.set_num_threads(1)


@contextlib.contextmanager
def one_line_of_threads() -> Iterator[None]:
    """Let a thread that cannot write say so in one line, as TensorBoard's on a full disk."""

    def report(failed: threading.ExceptHookArgs) -> None:
        if isinstance(failed.exc_value, OSError):
            print(f"secateur: warning: {failed.exc_value}", file=sys.stderr)
        else:
            before(failed)

    before, threading.excepthook = threading.excepthook, report
    try:
        yield
    finally:
        threading.excepthook = before


def check_shared(verb: Any) -> None:
    """Refuse a verb that does not share its work among several processes.

    Args:
        verb: The verb; one that shares has an attribute ``shared``.

    Raises:
        ValueError: If torchrun has started several processes.
    """
    if is_launched() and not getattr(verb, "shared", False):
        raise ValueError(f"{type(verb).__name__.lower()} runs in one process; start it without torchrun")


@contextlib.contextmanager
def one_stdout() -> Iterator[None]:
    """Let only the first of several processes print on stdout."""
    if not is_launched():
        yield
        return
    from ...envs.modules.ranks import is_first  # here, as a process alone may not need torch

    with contextlib.ExitStack() as stack:
        if not is_first():
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
        yield
