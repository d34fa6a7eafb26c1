"""What the process asks of the machine: threads and memory."""

import ctypes
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...envs.tracing import TracedNetwork

_ONE_THREAD_MACS = 10_000_000
"""Networks with fewer MACs an image run on one thread."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3)."""


def choose_threads(network: "TracedNetwork") -> None:
    """Give a network that is too small for several threads one, unless OMP_NUM_THREADS says how many.

    On one thread of two the demo CNN takes 0.25 s for two epochs instead of 0.18 s; but where another process
    is busy two threads wait for each other, and thirty epochs took seven minutes instead of four seconds.
    """
    import torch  # here, as keep_freed_memory is for every verb, and some do without torch

    from ...envs.cost.counts import cost

    if "OMP_NUM_THREADS" not in os.environ and cost(network).macs < _ONE_THREAD_MACS:
        torch.set_num_threads(1)


def keep_freed_memory() -> None:
    """Let up to 2 GiB of what is freed stay with the process, as each step of training asks for it again.

    Otherwise the system fills the same pages with zeros in every step: with distillation, a step of ResNet-20
    takes 0.19 s of a core instead of 0.21 s, one of ResNet-56 0.49 instead of 0.53 (batches of 128). Does
    nothing where the C library is not glibc.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(_MMAP_THRESHOLD, 2**25)  # the most that is allowed; larger blocks are given back
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
