"""Ending at a place from which one can go on."""

import os
import signal
import threading
from types import FrameType
from typing import Any, Self

from ...envs.recovery.checkpoint import Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what a scheduler sends before it kills."""


class GracefulStop:
    """Turn the first wish to end into one that is granted at the next safe place; the second ends at once.

    Args:
        advice: The command that goes on, for the person who stops.
    """

    def __init__(self, advice: str) -> None:
        self._advice = advice
        self._is_wanted = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            self._before = {number: signal.signal(number, self._wish) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Grant the wish; called where everything is in a state to go on from.

        Raises:
            Stopped: If someone wants to end.
        """
        if self._is_wanted:
            raise Stopped(self._advice)

    def _wish(self, number: int, frame: FrameType | None) -> None:
        if self._is_wanted:
            raise KeyboardInterrupt(self._advice)
        self._is_wanted = True
        # Not print: the signal may come in the middle of one.
        os.write(2, b"\nsecateur: stopping as soon as nothing is lost; once more stops at once\n")
