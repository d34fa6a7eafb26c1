"""What the pictures promise, which TensorBoard and the report share."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from secateur.agent.reporting.figures import (
    figure_of_candidates,
    figure_of_curve,
    figure_of_frontier,
    figure_of_keep_ratios,
)
from secateur.envs.environment.rendering import figure_of_counts

CLOUD = {
    "macs_ratio": [0.3, 0.4, 0.5, 0.6],
    "accuracy": [80.0, 90.0, 85.0, 95.0],
    "loss": [0.5, 0.3, 0.4, 0.2],
    "meets_target": [1, 1, 1, 0],
}


def legend(axes: Axes) -> list[str]:
    found = axes.get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def texts_outside(figure: Figure) -> list[str]:
    """Give the texts beside bars and axes that are not wholly within the picture."""
    figure.draw_without_rendering()
    texts = [text for axes in figure.axes for text in (*axes.texts, *axes.get_yticklabels(), axes.title)]
    return [text.get_text() for text in texts if not _within(text.get_window_extent(), figure.bbox)]


def _within(box, frame) -> bool:  # type: ignore[no-untyped-def]
    return box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1


def test_bars_are_as_long_as_there_are_filters_and_the_first_layer_is_on_top() -> None:
    (axes,) = figure_of_counts(["stem.0", "hidden"], [32, 64], [20, 7]).axes
    kept, removed = ([bar.get_width() for bar in bars] for bars in axes.containers)
    assert kept == [20, 7]
    assert removed == [12, 57]
    assert [bar.get_x() for bar in axes.containers[1]] == kept
    assert [label.get_text() for label in axes.get_yticklabels()] == ["stem.0", "hidden"]
    assert axes.yaxis_inverted()


def test_each_layer_says_how_many_of_its_filters_are_kept() -> None:
    (axes,) = figure_of_counts(["stem.0", "middle", "hidden"], [32, 8, 64], [20, 8]).axes
    assert [text.get_text() for text in axes.texts] == ["20 of 32", "8 of 8", "64"]
    assert legend(axes) == ["kept", "removed", "not decided yet"]


@pytest.mark.parametrize("layers", [1, 16, 160])
def test_every_layer_can_be_read_on_a_phone_however_many_there_are(layers: int) -> None:
    names = [f"features.denseblock{k}.denselayer{k}.conv1" for k in range(layers)]
    figure = figure_of_counts(names, [1024] * layers, [1000] * layers, "a title")
    assert texts_outside(figure) == []
    labels = figure.axes[0].get_yticklabels()
    pixels = 328 / (72 * figure.get_figwidth())  # of a phone's 360, without margins, for a point
    assert len(labels) == layers
    assert all(label.get_fontsize() * pixels > 9 for label in (*labels, *figure.axes[0].texts))
    boxes = [label.get_window_extent() for label in labels]
    assert all(above.y0 > below.y1 for above, below in pairwise(boxes))
    longest_bar = figure.axes[0].containers[0][0].get_window_extent().width
    assert longest_bar > 0.3 * figure.bbox.width
    assert all(label.get_text().endswith(name[-12:]) for label, name in zip(labels, names, strict=True))


def test_no_layer_is_a_picture_too() -> None:
    figure_of_counts([], [], []).draw_without_rendering()


def test_names_are_taken_literally() -> None:
    figure = figure_of_counts(["$a_b$", "$\\frac$", "a\nb"], [4, 4, 4], [2, 2, 2], "$x$")
    figure.draw_without_rendering()
    labels = figure.axes[0].get_yticklabels()
    assert not any(label.get_parse_math() for label in labels)
    assert [label.get_text() for label in labels] == ["$a_b$", "$\\frac$", "a b"]


def test_every_network_has_a_plane_of_its_own_with_units() -> None:
    figure = figure_of_candidates({"one": CLOUD, "other": CLOUD}, "mean IoU", chosen=(0.4, 85.0))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "one: 4 candidates",
        "other: 4 candidates",
    ]
    assert figure.axes[0].get_xlabel() == "MACs left, %"
    assert figure.axes[0].get_ylabel() == "mean IoU on val\nbefore fine-tuning, %"
    assert legend(figure.axes[0]) == ["meets the target", "misses it", "frontier", "chosen"]
    assert texts_outside(figure) == []


def test_candidates_are_told_apart_by_shape_too() -> None:
    met, missed, front, star = figure_of_candidates({"net": CLOUD}, "accuracy", (0.45, 91.0)).axes[0].lines
    assert [line.get_marker() for line in (met, missed, star)] == ["o", "x", "*"]
    np.testing.assert_allclose(met.get_xydata(), [[30, 80], [40, 90], [50, 85]])
    np.testing.assert_allclose(missed.get_xydata(), [[60, 95]])
    np.testing.assert_allclose(star.get_xydata(), [[45, 91]])
    np.testing.assert_allclose(front.get_xydata(), [[30, 80], [40, 90], [60, 95]])
    assert front.get_drawstyle() == "steps-post"


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


def test_a_curve_goes_through_what_is_known() -> None:
    figure = figure_of_curve([0.5, math.nan, 0.25, math.inf, 0.125], "loss", "epoch")
    (line,) = figure.axes[0].lines
    np.testing.assert_allclose(line.get_xydata(), [[1, 0.5], [3, 0.25], [5, 0.125]])
    assert figure.get_suptitle() == "loss by epoch"
    assert figure.axes[0].get_xlabel() == "epoch"


def test_the_frontier_has_a_line_a_decider_from_small_to_large_and_one_of_the_dense_network() -> None:
    curves = {"ppo": [(0.6, 80.0), (0.3, 50.0)], "l2-uniform": [(0.3, 40.0), (0.6, 70.0)]}
    (axes,) = figure_of_frontier(curves, 99.0, "demo", "accuracy").axes
    assert legend(axes) == ["ppo", "l2-uniform", "dense"]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[30, 50], [60, 80]])
    assert axes.lines[0].get_marker() != axes.lines[1].get_marker()
    np.testing.assert_allclose(axes.lines[2].get_ydata(), 99.0)
