"""Stopping on a signal at a point from which the run can be resumed."""

import os
from types import FrameType
from typing import Any, Self

from ...envs.modules.ranks import any_rank, ranks
from ...envs.recovery.checkpoint import Stopped
from .signals import restore_handlers, set_handlers


class GracefulStop:
    """Delay the first SIGINT or SIGTERM to the next call of :meth:`check`; the second stops at once.

    A signal to one of several ranks stops all at the same call.

    Args:
        advice: The command that resumes the run, shown to the user.
    """

    def __init__(self, advice: str) -> None:
        self._advice = advice
        self._requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = set_handlers(self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        restore_handlers(self._before)

    def check(self) -> None:
        """Stop if a rank has received a signal; called by all ranks where the saved state is complete.

        Raises:
            Stopped: If a signal was received.
        """
        if any_rank(self._requested):
            raise Stopped(self._advice)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt(self._advice)
        self._requested = True
        if ranks() == 1:  # torchrun, which sends the signal to all, says so itself
            # Not print, as the signal may interrupt another call of it.
            os.write(2, b"\nsecateur: stopping at the next safe point; interrupt again to stop at once\n")
