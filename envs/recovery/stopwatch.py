"""How long something took, whoever interrupted it."""

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Wall-clock seconds of a piece of work, over pauses and over processes.

    It runs from when it is made.

    Args:
        earlier: Seconds that processes before this one spent on the same work.
    """

    def __init__(self, earlier: float = 0.0) -> None:
        self._earlier, self._began = earlier, time.perf_counter()

    @property
    def seconds(self) -> float:
        """What it shows."""
        return self._earlier + time.perf_counter() - self._began

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out other work that is done in between."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._began += time.perf_counter() - began
