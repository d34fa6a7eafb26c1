"""What the pictures of the report promise: well formed, inside their frames, said in words too."""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.agent.reporting.svg_figures import candidates_figure, curve_figure, layers_figure
from secateur.envs.environment.rendering import KEPT, REMOVED

SVG = "{http://www.w3.org/2000/svg}"
LAYERS = [{"name": "stem.0", "filters": 32, "kept": 20}, {"name": "hidden", "filters": 64, "kept": 7}]


def test_the_picture_of_the_layers_has_a_title_units_and_words_for_who_cannot_see_it() -> None:
    svg = ElementTree.fromstring(layers_figure(LAYERS))
    texts = [element.text for element in svg.iter() if element.text]
    assert svg.get("role") == "img"
    assert svg.get("aria-label", "").startswith("Filters of each layer, kept and removed: 27 of 96 are kept")
    assert "Filters kept and removed in each layer" in texts
    assert "filters of the layer" in texts
    assert {"20 of 32", "7 of 64", "kept", "removed"} <= set(texts)


def test_bars_are_as_long_as_there_are_filters() -> None:
    svg = ElementTree.fromstring(layers_figure(LAYERS))
    bars = [group.findall("{*}rect") for group in svg.findall("{*}g")]
    lengths = [[float(rect.get("width", 0)) for rect in pair] for pair in bars]
    unit = sum(lengths[1]) / 64
    np.testing.assert_allclose(np.array(lengths) / unit, [[20, 12], [7, 57]], atol=0.05)
    assert [[rect.get("fill") for rect in pair] for pair in bars] == [[KEPT, REMOVED]] * 2


@given(
    layers=st.lists(
        st.builds(
            lambda name, filters, share: {
                "name": name,
                "filters": filters,
                "kept": max(1, round(share * filters)),
            },
            st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=60),
            st.integers(1, 4096),
            st.floats(0, 1),
        ),
        max_size=20,
    )
)
def test_every_picture_of_layers_is_well_formed_and_stays_inside_its_frame(
    layers: list[dict[str, Any]],
) -> None:
    svg = ElementTree.fromstring(layers_figure(layers))
    for rect in svg.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(rect.get("x", 0)) + float(rect.get("width", 0)) <= 400 - 60


@given(st.lists(st.floats(-1e100, 1e100) | st.sampled_from([math.nan, math.inf, -math.inf]), max_size=30))
def test_every_curve_is_well_formed_or_not_there(values: list[float]) -> None:
    finite = [value for value in values if math.isfinite(value)]
    drawn = curve_figure(values, what="loss", by="epoch")
    assert bool(drawn) == (len(finite) >= 2)
    if drawn:
        line = next(ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}polyline"))
        points = [point.split(",") for point in line.get("points", "").split()]
        assert len(points) == len(finite)
        assert all(0 <= float(x) <= 400 and 0 <= float(y) <= 190 for x, y in points)


@pytest.fixture
def cloud() -> dict[str, list[float]]:
    return {
        "macs_ratio": [0.3, 0.4, 0.5, 0.6],
        "accuracy": [80.0, 90.0, 85.0, 95.0],
        "loss": [0.5, 0.3, 0.4, 0.2],
        "meets_target": [1, 1, 1, 0],
    }


def test_the_cloud_tells_candidates_apart_by_shape_and_says_what_it_shows(
    cloud: dict[str, list[float]],
) -> None:
    svg = ElementTree.fromstring(candidates_figure(cloud, (0.45, 91.0), "accuracy"))
    paths = [path.get("d", "") for path in svg.iter(f"{SVG}path")]
    assert [path.count("h0") for path in paths] == [1, 0, 3, 0]  # legend, then candidates
    assert [path.count("l5 5") for path in paths] == [0, 1, 0, 1]
    assert len(list(svg.iter(f"{SVG}polygon"))) == 2
    assert svg.get("role") == "img"
    assert "4 candidates by MACs left and accuracy; 3 meet the target" in svg.get("aria-label", "")
    texts = [element.text for element in svg.iter() if element.text]
    assert {"meets the target", "misses it", "frontier", "chosen", "MACs left, %", "30", "60"} <= set(texts)


def test_the_frontier_climbs_in_steps_over_the_candidates_that_nothing_beats(
    cloud: dict[str, list[float]],
) -> None:
    svg = ElementTree.fromstring(candidates_figure(cloud, (0.3, 80.0), "accuracy"))
    line = next(svg.iter(f"{SVG}polyline"))
    points = [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
    assert len(points) == 5  # 30 and 80 %, 40 and 90 %, 60 and 95 %, and the corners between
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 100), st.integers(0, 1)), max_size=20),
    st.floats(0, 1),
    st.floats(0, 100),
)
def test_every_cloud_is_well_formed_or_not_there(
    points: list[tuple[float, float, int]], size: float, accuracy: float
) -> None:
    columns = zip(*points, strict=True) if points else ((), (), ())
    cloud = dict(zip(("macs_ratio", "accuracy", "meets_target"), map(list, columns), strict=True))
    drawn = candidates_figure(cloud, (size, accuracy), "accuracy")
    assert bool(drawn) == bool(points)
    if drawn:
        ElementTree.fromstring(drawn)


def test_a_cloud_of_two_thousand_candidates_stays_small() -> None:
    generator = np.random.default_rng(0)
    cloud = {
        "macs_ratio": generator.random(2000).tolist(),
        "accuracy": (100 * generator.random(2000)).tolist(),
        "meets_target": [1] * 2000,
    }
    assert len(candidates_figure(cloud, (0.5, 90.0), "accuracy")) < 50_000
