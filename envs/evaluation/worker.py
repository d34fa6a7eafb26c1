"""What a worker does: it holds objects for several jobs, and runs one job after the other.

Large objects, such as networks and images, are sent to a worker once and named by numbers after that. A new
worker in the place of a lost one has none, and gets those of its first job with it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cloudpickle
import torch

from ..io.user_code import portable
from .packing import unpack


@dataclass(frozen=True)
class Job:
    """A call of a function.

    Args:
        function: The function.
        residents: Numbers of the objects that are its first arguments.
        arguments: Its other arguments.
        dropped: Numbers of objects that the worker needs no longer.
    """

    function: Callable[..., Any]
    residents: tuple[int, ...]
    arguments: tuple[Any, ...]
    dropped: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Answer:
    """What came of a job.

    Args:
        value: What the function returned.
        error: What it raised, or None.
    """

    value: Any = None
    error: BaseException | None = None


class Worker:
    """Hold objects and run jobs, on one core or one GPU."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._held: dict[int, Any] = {}

    def run(self, packed_job: bytes, sent: Mapping[int, Any]) -> Answer:
        """Run a job; whatever goes wrong is part of the answer.

        Args:
            packed_job: The job.
            sent: The packed objects that the worker does not hold yet, by number.
        """
        try:
            job: Job = unpack(packed_job)
            for number in job.dropped:
                self._held.pop(number, None)
            for number, content in sent.items():
                self._held[number] = unpack(self.fetch(content))
            held = [self._held[number] for number in job.residents]
            return Answer(job.function(*held, *job.arguments))
        except (Exception, SystemExit) as error:
            return Answer(error=portable(error, cloudpickle.dumps))

    def fetch(self, content: Any) -> bytes:
        """Return a packed object from what was sent for it."""
        return bytes(content)
