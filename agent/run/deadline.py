"""The time limit of a search."""

from ...envs.evaluation.journal import Journal
from ...envs.modules.ranks import first_decides
from ...envs.recovery.stopwatch import Stopwatch


class Deadline:
    """Say after each update of a search whether its time is over; a resumed run gets the same answers.

    Of several ranks the first one's clock decides.

    Args:
        seconds: The time limit.
        clock: The search's clock, across processes.
        journal: Where the end of the search is recorded; None records nothing.
    """

    def __init__(self, seconds: float, clock: Stopwatch, journal: Journal | None) -> None:
        self._seconds, self._clock, self._journal = seconds, clock, journal
        self._measured = 0

    def __call__(self, updates: int) -> bool:
        """Return whether the search ends after a number of updates."""
        return first_decides(lambda: self._is_over(updates))

    def _is_over(self, updates: int) -> bool:
        journal = self._journal
        if journal is None:
            return self._clock.seconds >= self._seconds
        event = f"the time was over after {updates} updates"
        if journal.is_marked(event):
            return True
        is_new, self._measured = journal.measured > self._measured, journal.measured
        # An update that an earlier process measured did not end the search then.
        if not is_new or self._clock.seconds < self._seconds:
            return False
        journal.mark(event)
        return True
