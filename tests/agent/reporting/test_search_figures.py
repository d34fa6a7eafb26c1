"""What the history of a search promises, and its pictures for TensorBoard."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.agent.reporting.search_figures import figure_of_candidates, figure_of_keep_ratios
from secateur.agent.run.search_history import Candidate, SearchHistory, pareto

CLOUD = SearchHistory(
    [
        Candidate("one", 0.3, 80.0, 0.5, -0.5, True),
        Candidate("other", 0.5, 70.0, 0.6, -0.6, False),
        Candidate("one", 0.6, 90.0, 0.3, -0.9, False),
    ]
)


def test_candidates_are_short_lists_by_network() -> None:
    clouds = CLOUD.clouds()
    assert clouds["one"] == {
        "macs_ratio": [0.3, 0.6], "accuracy": [80.0, 90.0], "loss": [0.5, 0.3], "meets_target": [1, 0],
    }  # fmt: skip
    assert clouds["other"]["accuracy"] == [70.0]
    assert SearchHistory().clouds() == {}


def test_two_thousand_candidates_take_little_of_a_report() -> None:
    numbers = np.random.default_rng(0).random((2000, 4)) * [1, 100, 2, 1]
    history = SearchHistory([Candidate("net", *row, True) for row in numbers.tolist()])
    assert len(json.dumps(history.clouds()["net"])) < 60_000


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_the_frontier_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    front = pareto([size for size, _ in points], [accuracy for _, accuracy in points])
    for size, accuracy in points:
        assert any(points[k][0] <= size and points[k][1] >= accuracy for k in front)
    assert [points[k] for k in front] == sorted({points[k] for k in front})
    for k in front:
        others = [p for p in points if p != points[k]]
        assert not any(p[0] <= points[k][0] and p[1] >= points[k][1] for p in others)


def test_every_network_has_a_plane_of_its_own_with_units() -> None:
    figure = figure_of_candidates(CLOUD.clouds(), "mean IoU", chosen=(0.4, 85.0))
    assert [axes.get_title() for axes in figure.axes] == ["one: 2 candidates", "other: 1 candidates"]
    assert figure.axes[0].get_xlabel() == "MACs left, %"
    assert figure.axes[0].get_ylabel() == "mean IoU on val before fine-tuning, %"
    legend = figure.axes[0].get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["meets the target", "misses it", "Pareto frontier", "chosen"]


def test_the_heat_map_has_a_row_a_layer_and_a_column_an_update() -> None:
    figure = figure_of_keep_ratios([{"a": 0.5, "b": 1.0}, {"a": 0.25}, {"a": 0.0, "b": 0.5}])
    (image,) = figure.axes[0].get_images()
    shown = np.ma.filled(image.get_array(), -1)
    np.testing.assert_allclose(shown, [[0.5, 0.25, 0.0], [1.0, -1, 0.5]])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b"]
    assert image.get_clim() == (0, 1)


@pytest.mark.parametrize("layers", [1, 41, 200])
def test_a_heat_map_names_at_most_forty_layers(layers: int) -> None:
    figure = figure_of_keep_ratios([{f"layer{k}": 0.5 for k in range(layers)}])
    assert 0 < len(figure.axes[0].get_yticks()) <= 40
