"""Engines: where candidates are measured.

Outcomes are equal bit for bit with every engine on the same kind of processor: a candidate is always measured
on one core or one GPU.
"""

import contextlib
from collections.abc import Collection, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import torch

from ..modules.ranks import broadcast, gather, rank, ranks, together
from ..tasks.measuring import Measurement
from .base import Candidate
from .bench import Bench
from .shared_prefix import SharedPrefix


class Engine(Protocol):
    """Measure the candidates of a call, several at a time."""

    def at_once(self, bench: Bench) -> int:
        """Return the number of candidates that are measured at the same time."""

    def measured(
        self, bench: Bench, candidates: Sequence[Candidate], differing: Collection[str]
    ) -> Generator[Measurement, None, None]:
        """Measure candidates.

        Args:
            bench: What measures them here, and on which images.
            candidates: The candidates.
            differing: Names of the tensors in which they differ, as for :meth:`.Bench.prefix`.

        Returns:
            Their measurements, in order.
        """


class ThisProcess:
    """Measure in the threads of this process, one candidate a core; on a GPU one after the other.

    Among the ranks of ``torchrun``, each measures its share.
    """

    def at_once(self, bench: Bench) -> int:
        """Return the number of candidates that are measured at the same time."""
        return ranks() * _threads(bench)

    def measured(
        self, bench: Bench, candidates: Sequence[Candidate], differing: Collection[str]
    ) -> Generator[Measurement, None, None]:
        """Measure candidates; see :class:`Engine`."""
        shared = bench.prefix(differing)
        if ranks() == 1:
            yield from _measured_here(bench, candidates, shared)
            return
        at_once = broadcast(self.at_once(bench))
        for start in range(0, len(candidates), at_once):  # in rounds, after which the run may be stopped
            some = candidates[start : start + at_once]
            with together():
                mine = list(_measured_here(bench, some[rank() :: ranks()], shared))
            shares = gather(mine)
            for k in range(len(some)):
                yield shares[k % ranks()][k // ranks()]


def _threads(bench: Bench) -> int:
    is_parallel = bench.device.type == "cpu" and not bench.is_sequential
    return torch.get_num_threads() if is_parallel else 1


def _measured_here(
    bench: Bench, candidates: Sequence[Candidate], shared: SharedPrefix | None
) -> Generator[Measurement, None, None]:
    """Measure candidates one per core, which is faster than one on all cores.

    The first of those that share a prefix computes it. A single candidate has its images shared out.
    """
    threads = _threads(bench)
    if threads == 1:
        for masks in candidates:
            yield bench.measure(masks, shared)
        return
    with _one_thread_each(), ThreadPoolExecutor(threads) as pool:
        try:
            leaders = 1 if shared or len(candidates) == 1 else 0
            for masks in candidates[:leaders]:
                yield bench.measure(masks, shared) if shared else bench.measure(masks, spread=pool.map)
            yield from pool.map(lambda masks: bench.measure(masks, shared), candidates[leaders:])
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let this thread, and those that it begins, compute on one core each, as the numbers depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
