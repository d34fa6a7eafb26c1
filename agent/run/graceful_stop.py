"""Stop a process where it can be resumed."""

import os
import signal
import threading
from types import FrameType
from typing import Any, Self

from ...envs.recovery.checkpoint import Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and the signal that a scheduler sends before it kills a process."""


class GracefulStop:
    """Delay the first stop signal until the next safe point; the second stops at once.

    Args:
        advice: The command that resumes the run, for the message.
    """

    def __init__(self, advice: str) -> None:
        self._advice = advice
        self._is_wanted = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python allows signal handlers only there
            self._before = {number: signal.signal(number, self._wish) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Stop if a signal has arrived; called where the run can be resumed.

        Raises:
            Stopped: If a signal has arrived.
        """
        if self._is_wanted:
            raise Stopped(self._advice)

    def _wish(self, number: int, frame: FrameType | None) -> None:
        if self._is_wanted:
            raise KeyboardInterrupt(self._advice)
        self._is_wanted = True
        # Not print: the signal may interrupt a running print.
        os.write(2, b"\nsecateur: stopping as soon as nothing is lost; once more stops at once\n")
