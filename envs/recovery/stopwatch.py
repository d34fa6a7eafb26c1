"""Wall-clock time of work with pauses and interruptions."""

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Measure the wall-clock seconds of work, across pauses and processes, from creation on.

    Args:
        earlier: Seconds that earlier processes spent on the same work.
    """

    def __init__(self, earlier: float = 0.0) -> None:
        self._earlier, self._began = earlier, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self._earlier + time.perf_counter() - self._began

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude other work from the measurement."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._began += time.perf_counter() - began
