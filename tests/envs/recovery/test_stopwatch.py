"""How long something took, over pauses and processes."""

from __future__ import annotations

import contextlib

import pytest

from secateur.envs.recovery.stopwatch import Stopwatch


def test_seconds_add_up_and_pauses_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    clock = Stopwatch(5.0)
    now = 103.0
    with clock.paused():
        now = 160.0
    now = 161.0
    assert clock.seconds == pytest.approx(5 + 3 + 1)
    with (
        contextlib.suppress(KeyboardInterrupt),
        clock.paused(),
    ):  # who stops it in a pause is not charged either
        now = 200.0
        raise KeyboardInterrupt
    assert clock.seconds == pytest.approx(9)
