"""A search with a time limit ends at the same update when it is resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from secateur.agent.run.deadline import Deadline
from secateur.envs.evaluation.journal import CachedMeasurement, Journal
from secateur.envs.recovery.stopwatch import Stopwatch


def measure(journal: Journal, number: int) -> None:
    masks = [np.array([number % 2 == 0, number % 3 == 0, True] + [bool(number >> k & 1) for k in range(8)])]
    if journal.recall("search", masks) is None:
        journal.append("search", masks, CachedMeasurement(50.0, 1.0))


def updates_until(deadline: Deadline, journal: Journal, limit: int) -> int:
    for update in range(limit):
        if deadline(update):
            return update
        measure(journal, update)
    return limit


def test_without_a_journal_the_clock_decides() -> None:
    assert not Deadline(60.0, Stopwatch(), None)(3)
    assert Deadline(60.0, Stopwatch(earlier=61.0), None)(3)


def test_at_least_one_update_is_made_whatever_the_clock_says(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    assert updates_until(Deadline(0.0, Stopwatch(earlier=9.0), journal), journal, 5) == 1


def test_a_search_that_the_clock_ended_ends_there_again(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal")
    slow = Stopwatch()
    deadline = Deadline(100.0, slow, first)
    for update in range(3):
        assert not deadline(update)
        measure(first, update)
    slow._earlier = 200.0
    assert deadline(3)
    again = Journal(tmp_path / "journal")
    assert updates_until(Deadline(1e9, Stopwatch(), again), again, 9) == 3


def test_updates_that_were_measured_before_do_not_end_a_resumed_search(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal")
    for update in range(4):  # interrupted before the time was over
        measure(first, update)
    again = Journal(tmp_path / "journal")
    over = Deadline(1.0, Stopwatch(earlier=5.0), again)
    assert updates_until(over, again, 9) == 5  # four that are known and one that is new
