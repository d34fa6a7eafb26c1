"""Open an engine by its name."""

import contextlib
import itertools
import weakref
from collections.abc import Collection, Generator, Iterator, Sequence
from typing import Any

import torch

from ..modules.ranks import ranks
from ..tasks.measuring import Measurement
from .base import Candidate
from .bench import Bench, ValSubset
from .engine import Engine, ThisProcess
from .engine_names import LOCAL, RAY
from .local_pool import LocalPool
from .pool import Pool, Resident
from .ray_pool import RayPool, check_ray


class Workers:
    """Measure in the workers of a pool, one candidate each.

    A bench is sent to each worker once, and so are the images of each subset of ``val``.

    Args:
        pool: The workers.
    """

    def __init__(self, pool: Pool[Any]) -> None:
        self._pool = pool
        self._residents: weakref.WeakKeyDictionary[Any, Resident] = weakref.WeakKeyDictionary()
        self._calls = itertools.count()

    def at_once(self, bench: Bench) -> int:
        """Return the number of candidates that are measured at the same time."""
        return self._pool.size

    def measured(
        self, bench: Bench, candidates: Sequence[Candidate], differing: Collection[str]
    ) -> Generator[Measurement, None, None]:
        """Measure candidates; see :class:`.Engine`."""
        call = next(self._calls)
        residents = [self._resident(bench), self._resident(bench.subset)]
        arguments = [(bench.kind, call, differing, masks) for masks in candidates]
        return self._pool.map(_measure, residents, arguments)

    def _resident(self, thing: Any) -> Resident:
        if thing not in self._residents:
            self._residents[thing] = self._pool.put(thing)
        return self._residents[thing]


def check_engine(name: str) -> None:
    """Check at once that an engine can be opened, as far as that is known then.

    Args:
        name: As for :func:`open_engine`.

    Raises:
        ValueError: If Ray is not installed, or nothing answers at the address.
    """
    if name != LOCAL:
        check_ray(None if name == RAY else name)


@contextlib.contextmanager
def open_engine(name: str, workers: int | None, device: torch.device) -> Iterator[Engine]:
    """Open an engine, and stop its workers in the end.

    Args:
        name: ``local``, ``ray``, or the address of a Ray cluster.
        workers: Number of workers, at least 1. None takes this process alone, or with Ray as many as the
            cluster has cores or GPUs.
        device: The device of the networks.

    Raises:
        ValueError: If there is no such engine, or the ranks of torchrun measure already.
    """
    if name == LOCAL and (workers or 1) == 1:
        yield ThisProcess()
        return
    if ranks() > 1:
        raise ValueError(
            "the ranks of torchrun share the candidates; leave out --search-workers and --engine"
        )
    pool: Pool[Any]
    if name == LOCAL:
        assert workers is not None
        pool = LocalPool(workers, device)
    else:
        pool = RayPool(workers, device, None if name == RAY else name)
    with pool:
        yield Workers(pool)


def _measure(
    bench: Bench, subset: ValSubset, kind: str, call: int, differing: Collection[str], masks: Candidate
) -> Measurement:
    """Measure a candidate in a worker."""
    if bench.kind != kind:
        raise ValueError(
            f"a worker would measure in {bench.kind}, this process in {kind}, and their outcomes differ; use "
            "machines of one kind"
        )
    bench.look_at(subset)
    return bench.measure_in_call(call, differing, masks)
