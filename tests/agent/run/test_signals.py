"""Handlers of signals are put back, and those that cannot be put back are left alone."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from secateur.agent.comparison.all_members import _stop_file_on_signal
from secateur.agent.run.graceful_stop import GracefulStop
from secateur.agent.run.signals import SIGNALS


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.fixture
def one_of_c(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let SIGTERM have a handler that C code has set; return the signals that get another one."""
    real_get, real_set, changed = signal.getsignal, signal.signal, list[int]()

    def getsignal(number: int) -> Any:
        return None if number == signal.SIGTERM else real_get(number)

    def set_signal(number: int, handler: Any) -> Any:
        if handler is None:
            raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object")
        changed.append(number)
        before = real_set(number, handler)
        return None if number == signal.SIGTERM else before

    monkeypatch.setattr(signal, "getsignal", getsignal)
    monkeypatch.setattr(signal, "signal", set_signal)
    return changed


@pytest.mark.parametrize("kind", ["stop", "file"])
def test_handlers_are_put_back(kind: str, tmp_path: Path) -> None:
    before = handlers()
    with GracefulStop("again") if kind == "stop" else _stop_file_on_signal(tmp_path / "stop"):
        assert all(one != other for one, other in zip(handlers(), before, strict=True))
    assert handlers() == before


@pytest.mark.parametrize("kind", ["stop", "file"])
def test_a_handler_of_c_code_stays(kind: str, tmp_path: Path, one_of_c: list[int]) -> None:
    with GracefulStop("again") if kind == "stop" else _stop_file_on_signal(tmp_path / "stop"):
        pass
    assert one_of_c == [signal.SIGINT, signal.SIGINT]
