"""Share out jobs to workers; a job of a worker that dies is given to a new one."""

from __future__ import annotations

import itertools
import weakref
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Self, TypeVar

from .packing import pack
from .worker import Answer, Job

W = TypeVar("W")

_MOST_LOSSES = 3
"""Workers that a job may lose: one that kills each of them would do so for ever."""


class WorkerLostError(OSError):
    """Signal that a worker has died."""


class Resident:
    """An object for workers, which hold it while this handle lives.

    Args:
        number: Its number.
    """

    def __init__(self, number: int) -> None:
        self.number = number


@dataclass
class _Call:
    """The jobs of a call, by number.

    Args:
        waiting: Those to be done.
        busy: Those that are being done, by the place of the worker.
        answers: What came of the others, until it is yielded.
        losses: Workers that died on each.
    """

    waiting: deque[int]
    busy: dict[int, int] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)
    losses: Counter[int] = field(default_factory=Counter)


class Pool(ABC, Generic[W]):
    """Hold workers, one job each at a time.

    Args:
        size: Number of workers, at least 1.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._places: list[W | None] = [None] * size
        self._holds: dict[int, set[int]] = {}  # numbers of the objects of the worker in each place
        self._sent: dict[int, Any] = {}
        self._numbers = itertools.count()

    @abstractmethod
    def _start(self, place: int) -> W:
        """Start a worker."""

    @abstractmethod
    def _send(self, worker: W, job: bytes, sent: dict[int, Any]) -> None:
        """Give a packed job to an idle worker, with the objects that it needs and does not hold.

        Raises:
            WorkerLostError: If the worker has died.
        """

    @abstractmethod
    def _wait(self, workers: list[W]) -> list[W]:
        """Wait until some of several workers have finished their job or died, and return these."""

    @abstractmethod
    def _receive(self, worker: W) -> Answer:
        """Return what came of a worker's job.

        Raises:
            WorkerLostError: If the worker has died.
        """

    @abstractmethod
    def _stop(self, worker: W) -> None:
        """End a worker at once, whatever it does."""

    def _stored(self, content: bytes) -> Any:
        """Return what is sent to workers for a packed object."""
        return content

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all workers."""
        for place in range(self.size):
            self._vacate(place)

    def put(self, thing: Any) -> Resident:
        """Keep an object for the workers; it is packed now, and sent with the first job that needs it.

        Raises:
            ValueError: If it cannot be pickled.
        """
        resident = Resident(next(self._numbers))
        self._sent[resident.number] = self._stored(pack(thing))
        weakref.finalize(resident, self._sent.pop, resident.number, None)
        return resident

    def map(
        self,
        function: Callable[..., Any],
        residents: Sequence[Resident],
        arguments: Sequence[tuple[Any, ...]],
    ) -> Generator[Any, None, None]:
        """Call a function with the same residents and several other arguments.

        Args:
            function: A function of a module.
            residents: The objects that are its first arguments.
            arguments: Its other arguments, for each call.

        Returns:
            The results, in the order of ``arguments``.

        Raises:
            WorkerLostError: If several workers die on the same job.
        """
        numbers = tuple(resident.number for resident in residents)
        jobs = [Job(function, numbers, given) for given in arguments]
        call = _Call(deque(range(len(jobs))))
        try:
            for k in range(len(jobs)):
                while k not in call.answers:
                    self._hand_out(jobs, call)
                    self._collect(call)
                self._hand_out(jobs, call)
                answer = call.answers.pop(k)
                if answer.error is not None:
                    raise answer.error
                yield answer.value
        finally:
            for place in call.busy:
                self._vacate(place)  # nobody waits for what it is doing

    def _hand_out(self, jobs: Sequence[Job], call: _Call) -> None:
        """Give waiting jobs to idle workers."""
        for place in range(self.size):
            while call.waiting and place not in call.busy:
                k = call.waiting.popleft()
                try:
                    self._give(place, jobs[k])
                    call.busy[place] = k
                except WorkerLostError as loss:
                    self._lose(place, k, call, loss)

    def _collect(self, call: _Call) -> None:
        """Wait for some answers."""
        places = {id(self._worker(place)): place for place in call.busy}
        for worker in self._wait([self._worker(place) for place in call.busy]):
            place = places[id(worker)]
            k = call.busy.pop(place)
            try:
                call.answers[k] = self._receive(worker)
            except WorkerLostError as loss:
                self._lose(place, k, call, loss)

    def _lose(self, place: int, k: int, call: _Call, loss: WorkerLostError) -> None:
        """Give a job back of which the worker died."""
        self._vacate(place)
        call.losses[k] += 1
        if call.losses[k] == _MOST_LOSSES:
            raise WorkerLostError(
                f"{_MOST_LOSSES} workers died on the same job ({loss}); the memory may not suffice for "
                f"{self.size} workers, so give fewer"
            )
        call.waiting.appendleft(k)

    def _worker(self, place: int) -> W:
        worker = self._places[place]
        if worker is None:
            worker = self._places[place] = self._start(place)
            self._holds[place] = set()
        return worker

    def _vacate(self, place: int) -> None:
        worker, self._places[place] = self._places[place], None
        if worker is not None:
            self._stop(worker)

    def _give(self, place: int, job: Job) -> None:
        """Send a job to the worker in a place, with what it does not hold yet."""
        worker, holds = self._worker(place), self._holds[place]
        missing = {number: self._sent[number] for number in job.residents if number not in holds}
        dropped = frozenset(holds - self._sent.keys())
        self._send(worker, pack(replace(job, dropped=dropped)), missing)
        holds.update(missing)
        holds.difference_update(dropped)
