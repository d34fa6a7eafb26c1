"""What a picture promises that stands in a page: well formed, alone, said in words too."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.agent.reporting.figures import figure_of_candidates, figure_of_curve
from secateur.agent.reporting.svg import inline_svg
from secateur.envs.environment.rendering import KEPT, REMOVED, figure_of_counts

pytestmark = pytest.mark.filterwarnings("ignore:Glyph")  # the browser has them, or shows a box

SVG = "{http://www.w3.org/2000/svg}"

few_times = settings(max_examples=15)
drawn_names = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


def layers_svg(name: str = "layers", alt: str = "what is seen") -> str:
    return inline_svg(figure_of_counts(["stem.0", "hidden"], [32, 64], [20, 7], "a title"), name, alt)


def candidates_svg(name: str, candidates: int) -> str:
    generator = np.random.default_rng(0)
    cloud = {
        "macs_ratio": generator.random(candidates).tolist(),
        "accuracy": (100 * generator.random(candidates)).tolist(),
        "meets_target": [k % 2 for k in range(candidates)],
    }
    return inline_svg(figure_of_candidates({"net": cloud}, "accuracy", (0.5, 90.0)), name, "candidates")


def ids(svg: str) -> list[str]:
    return re.findall(r'\bid="([^"]*)"', svg)


def test_a_picture_is_as_wide_as_the_page_lets_it_be_and_says_what_it_shows() -> None:
    svg = ElementTree.fromstring(layers_svg(alt='2 < 3 & "more"'))
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == svg.findtext(f"{SVG}desc") == '2 < 3 & "more"'
    assert svg.get("viewBox", "").startswith("0 0 360 ")
    assert svg.get("width") is svg.get("height") is None


def test_its_words_stay_words() -> None:
    svg = ElementTree.fromstring(layers_svg())
    texts = [element.text for element in svg.iter(f"{SVG}text")]
    assert {"a title", "stem.0", "hidden", "20 of 32", "7 of 64", "kept", "filters of the layer"} <= set(
        texts
    )
    assert sum(path.get("style") == f"fill: {KEPT.lower()}" for path in svg.iter(f"{SVG}path")) == 2 + 1
    assert sum(path.get("style") == f"fill: {REMOVED.lower()}" for path in svg.iter(f"{SVG}path")) == 2 + 1


def test_it_needs_nothing_and_changes_nothing_outside_of_itself() -> None:
    svg = candidates_svg("candidates", 20)
    tags = {element.tag for element in ElementTree.fromstring(svg).iter()}
    assert tags <= {
        SVG + tag for tag in ("svg", "desc", "defs", "clipPath", "g", "path", "rect", "text", "use")
    }
    assert set(re.findall(r"\w+://[^\"' <]+", svg)) == {"http://www.w3.org/2000/svg"}
    referred = re.findall(r"url\(([^)]*)\)", svg) + re.findall(r'href="([^"]*)"', svg)
    assert {one.removeprefix("#") for one in referred} == set(ids(svg))
    assert all(one.startswith("#") for one in referred)


def test_ids_are_unique_on_a_page_even_of_pictures_that_look_the_same() -> None:
    page = ids(candidates_svg("one", 20)) + ids(candidates_svg("other", 20))
    assert len(page) > 6
    assert len(set(page)) == len(page)


def test_the_same_picture_gives_the_same_bytes_whatever_the_user_has_set() -> None:
    before = candidates_svg("candidates", 20), layers_svg()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": None}):
        assert (candidates_svg("candidates", 20), layers_svg()) == before


def test_a_cloud_of_two_thousand_candidates_stays_small() -> None:
    svg = candidates_svg("candidates", 2000)
    assert svg.count("<use ") >= 2000
    assert len(svg) < 110_000


def test_marks_that_share_a_style_keep_it() -> None:
    svg = ElementTree.fromstring(candidates_svg("candidates", 20))
    clouds = [group for group in svg.iter(f"{SVG}g") if len(group.findall(f"{SVG}use")) == 10]
    fills = [group.get("style", "") for group in clouds]
    assert len(fills) == 2
    assert KEPT.lower() in fills[0]
    assert REMOVED.lower() in fills[1]


@few_times
@given(names=st.lists(drawn_names, max_size=5), title=drawn_names)
def test_every_name_can_be_drawn(names: list[str], title: str) -> None:
    counts = [4] * len(names)
    ElementTree.fromstring(inline_svg(figure_of_counts(names, counts, counts, title), "layers", "layers"))


@few_times
@given(st.lists(st.floats(-1e100, 1e100) | st.sampled_from([math.nan, math.inf, -math.inf]), max_size=30))
def test_every_curve_can_be_drawn_and_stays_inside_its_frame(values: list[float]) -> None:
    svg = inline_svg(figure_of_curve(values, "loss", "epoch"), "epoch", "loss")
    lines = [
        path
        for path in ElementTree.fromstring(svg).iter(f"{SVG}path")
        if "stroke-width: 2" in path.get("style", "")
    ]
    for x, y in re.findall(r"[ML] (\S+) (\S+)", "".join(line.get("d", "") for line in lines)):
        assert 0 <= float(x) <= 360
        assert 0 <= float(y) <= 180


@few_times
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 100), st.integers(0, 1)), min_size=1, max_size=20),
    st.floats(0, 1),
    st.floats(0, 100),
)
def test_every_cloud_can_be_drawn(
    points: list[tuple[float, float, int]], size: float, accuracy: float
) -> None:
    columns = map(list, zip(*points, strict=True))
    cloud = dict(zip(("macs_ratio", "accuracy", "meets_target"), columns, strict=True))
    figure = figure_of_candidates({"net": cloud}, "accuracy", (size, accuracy))
    ElementTree.fromstring(inline_svg(figure, "candidates", "candidates"))


@pytest.mark.parametrize("name", ["\0", "\x1b[31m", "￾"])
def test_what_xml_cannot_say_is_replaced(name: str) -> None:
    assert "�" in inline_svg(figure_of_counts([name], [4], [2]), "layers", "layers")
