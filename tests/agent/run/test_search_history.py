"""What the history of a search promises."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from secateur.agent.run.search_history import Candidate, SearchHistory, pareto


def test_candidates_are_short_lists_by_network() -> None:
    history = SearchHistory(
        [
            Candidate("one", 0.3, 80.0, 0.5, -0.5, True),
            Candidate("other", 0.5, 70.0, 0.6, -0.6, False),
            Candidate("one", 0.6, 90.0, 0.3, -0.9, False),
        ]
    )
    columns = history.columns_by_network()
    assert columns["one"] == {
        "macs_ratio": [0.3, 0.6], "accuracy": [80.0, 90.0], "loss": [0.5, 0.3], "meets_target": [1, 0],
    }  # fmt: skip
    assert columns["other"]["accuracy"] == [70.0]
    assert SearchHistory().columns_by_network() == {}


def test_two_thousand_candidates_take_little_of_a_report() -> None:
    numbers = np.random.default_rng(0).random((2000, 4)) * [1, 100, 2, 1]
    history = SearchHistory([Candidate("net", *row, True) for row in numbers.tolist()])
    assert len(json.dumps(history.columns_by_network()["net"])) < 60_000


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_the_frontier_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    front = pareto([size for size, _ in points], [accuracy for _, accuracy in points])
    for size, accuracy in points:
        assert any(points[k][0] <= size and points[k][1] >= accuracy for k in front)
    assert [points[k] for k in front] == sorted({points[k] for k in front})
    for k in front:
        others = [p for p in points if p != points[k]]
        assert not any(p[0] <= points[k][0] and p[1] >= points[k][1] for p in others)
