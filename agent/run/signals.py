"""Handlers of the signals that stop a program, for the time of a run."""

import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what a scheduler sends before it kills."""


def set_handlers(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Handle the signals, where this thread can and what is there can be put back.

    Args:
        handler: Called with the number of the signal and the frame that it interrupts.

    Returns:
        The handlers that were replaced, by signal, for :func:`restore_handlers`. Those of C code stay, as
        Python does not know them.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}  # other threads cannot set handlers
    before = {number: signal.getsignal(number) for number in SIGNALS}
    known: dict[int, Any] = {number: one for number, one in before.items() if one is not None}
    for number in known:
        signal.signal(number, handler)
    return known


def restore_handlers(before: Mapping[int, Any]) -> None:
    """Put back what :func:`set_handlers` has replaced."""
    for number, handler in before.items():
        signal.signal(number, handler)
