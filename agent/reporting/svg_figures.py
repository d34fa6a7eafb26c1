"""Pictures of the report, as SVG that stands in the page: sharp on a phone and on paper."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

from ...envs.environment.rendering import CHOSEN, KEPT, REMOVED
from ..run.search_history import Columns, pareto

_WIDTH = 400
"""Of all pictures, in units of which a phone shows about one a pixel."""

_ROW = 18
_NAMES, _COUNTS = 128, 68
_LONGEST_NAME = 19

_HEIGHT = 220
_LEFT, _RIGHT, _TOP, _FLOOR = 60, 12, 48, 188


def layers_figure(layers: Sequence[dict[str, Any]]) -> str:
    """Draw a bar a layer: kept filters, then removed ones.

    Args:
        layers: In forward order, each with ``name``, ``filters`` and ``kept``.
    """
    filters, kept = (sum(layer[key] for layer in layers) for key in ("filters", "kept"))
    room = _WIDTH - _NAMES - _COUNTS
    unit = room / max((layer["filters"] for layer in layers), default=1)
    top, bottom = 48, 48 + _ROW * len(layers)
    parts = [_legend(_NAMES, 34)]
    parts += [_bar(layer, top + _ROW * k, unit) for k, layer in enumerate(layers)]
    parts += [_line(_NAMES, bottom + 2, _NAMES + room, bottom + 2)]
    widest = round(room / unit)
    for count in sorted({0, widest // 2, widest}):
        parts.append(_text(_NAMES + count * unit, bottom + 16, f"{count}", "middle"))
    parts.append(_text(_NAMES + room / 2, bottom + 31, "filters of the layer", "middle"))
    alt = f"Filters of each layer, kept and removed: {kept} of {filters} are kept in {len(layers)} layers. "
    alt += "The table of layers has the numbers."
    return _svg("Filters kept and removed in each layer", alt, bottom + 38, parts)


def curve_figure(values: Sequence[float], *, what: str, by: str) -> str:
    """Draw a line through one value a step; nothing where there are fewer than two.

    Args:
        values: One a step; undefined ones are left out.
        what: The values' name, with its unit if it has one.
        by: What a step is, such as ``epoch``.
    """
    points = [(k + 1, float(value)) for k, value in enumerate(values) if math.isfinite(value)]
    if len(points) < 2:
        return ""
    (first, begin), (last, end) = points[0], points[-1]
    plane = _Plane.around([x for x, _ in points], [y for _, y in points])
    parts = [
        *plane.axes((f"{first}", f"{last}"), by),
        f'<polyline points="{plane.path(points)}" fill="none" stroke="{KEPT}" stroke-width="2" '
        'stroke-linejoin="round"/>',
    ]
    alt = f"{what} by {by}: {begin:.3g} at {by} {first}, {end:.3g} at {by} {last}."
    return _svg(f"{what} by {by}", alt, _HEIGHT, parts)


def candidates_figure(cloud: Columns, chosen: tuple[float, float], metric: str) -> str:
    """Draw every candidate of a search by its size and accuracy, the frontier, and the chosen one.

    Args:
        cloud: The candidates; nothing is drawn without any.
        chosen: MACs ratio and accuracy in percent of the chosen one.
        metric: What the accuracy is called.
    """
    if not cloud.get("accuracy"):
        return ""
    points = [(100 * s, a) for s, a in zip(cloud["macs_ratio"], cloud["accuracy"], strict=True)]
    star = (100 * chosen[0], chosen[1])
    xs, ys = zip(*points, star, strict=True)
    plane = _Plane.around(xs, ys)
    met, missed = (
        [point for point, meets in zip(points, cloud["meets_target"], strict=True) if bool(meets) is wanted]
        for wanted in (True, False)
    )
    front = [points[k] for k in pareto(cloud["macs_ratio"], cloud["accuracy"])]
    steps = [front[0], *(point for (_, y), (x, up) in pairwise(front) for point in ((x, y), (x, up)))]
    legend = [_dots([(_LEFT + 4, 30)]), _text(_LEFT + 12, 34, "meets the target", "start")]
    if missed:
        legend += [_crosses([(_LEFT + 119, 30)]), _text(_LEFT + 127, 34, "misses it", "start")]
    legend += [_line(_LEFT + 184, 30, _LEFT + 200, 30, "#000"), _text(_LEFT + 205, 34, "frontier", "start")]
    legend += [_star(_LEFT + 266, 30), _text(_LEFT + 276, 34, "chosen", "start")]
    parts = [
        *legend,
        *plane.axes((f"{min(xs):.0f}", f"{max(xs):.0f}"), "MACs left, %"),
        _dots([plane.place(*point) for point in met]),
        _crosses([plane.place(*point) for point in missed]),
        f'<polyline points="{plane.path(steps)}" fill="none" stroke="#000" stroke-width="1.2"/>',
        _star(*plane.place(*star)),
    ]
    alt = (
        f"{len(points)} candidates by MACs left and {metric}; {len(met)} meet the target. The chosen one has "
        f"{star[0]:.1f} % of the MACs and {star[1]:.2f} %, the best candidate {max(cloud['accuracy']):.2f} %."
    )
    return _svg(f"Candidates: {metric} on val before fine-tuning, %", alt, _HEIGHT, parts)


@dataclass(frozen=True)
class _Plane:
    """Where numbers lie on a picture."""

    x: tuple[float, float]
    y: tuple[float, float]

    @classmethod
    def around(cls, xs: Sequence[float], ys: Sequence[float]) -> "_Plane":
        return cls((min(xs), max(xs)), (min(ys), max(ys)))

    def place(self, x: float, y: float) -> tuple[float, float]:
        (left, right), (low, high) = self.x, self.y
        across, up = (x - left) / ((right - left) or 1.0), (y - low) / ((high - low) or 1.0)
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * across, _FLOOR - (_FLOOR - _TOP) * up

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{px:.1f},{py:.1f}" for px, py in (self.place(x, y) for x, y in points))

    def axes(self, ends: tuple[str, str], label: str) -> list[str]:
        right = _WIDTH - _RIGHT
        return [
            _line(_LEFT - 5, _TOP - 5, _LEFT - 5, _FLOOR + 5),
            _line(_LEFT - 5, _FLOOR + 5, right, _FLOOR + 5),
            _text(_LEFT - 9, _TOP + 4, _short(self.y[1]), "end"),
            _text(_LEFT - 9, _FLOOR + 4, _short(self.y[0]), "end"),
            _text(_LEFT, _FLOOR + 20, ends[0], "middle"),
            _text(right, _FLOOR + 20, ends[1], "end"),
            _text((_LEFT + right) / 2, _FLOOR + 20, label, "middle"),
        ]


def _dots(places: Sequence[tuple[float, float]]) -> str:
    path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)
    return f'<path d="{path}" stroke="{KEPT}" stroke-width="4.5" stroke-linecap="round" opacity=".6"/>'


def _crosses(places: Sequence[tuple[float, float]]) -> str:
    path = "".join(f"M{x - 2.5:.1f} {y - 2.5:.1f}l5 5m0 -5l-5 5" for x, y in places)
    return f'<path d="{path}" stroke="{REMOVED}" stroke-width="1.5" fill="none"/>'


def _star(x: float, y: float) -> str:
    angles = [(math.pi * k / 5, 8.0 if k % 2 == 0 else 3.4) for k in range(10)]
    corners = " ".join(f"{x + r * math.sin(a):.1f},{y - r * math.cos(a):.1f}" for a, r in angles)
    return f'<polygon points="{corners}" fill="{CHOSEN}" stroke="#000"/>'


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")  # noqa: RUF001


def _bar(layer: dict[str, Any], y: float, unit: float) -> str:
    name, filters, kept = str(layer["name"]), layer["filters"], layer["kept"]
    short = name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]
    place = _NAMES + kept * unit
    parts = [
        f"<g><title>{escape(name)}: {kept} of {filters} filters kept</title>",
        _text(_NAMES - 5, y + 12, short, "end"),
        f'<rect x="{_NAMES}" y="{y + 2}" width="{kept * unit:.1f}" height="{_ROW - 4}" fill="{KEPT}"/>',
        f'<rect x="{place:.1f}" y="{y + 2}" width="{(filters - kept) * unit:.1f}" height="{_ROW - 4}" '
        f'fill="{REMOVED}"/>',
        _text(_NAMES + filters * unit + 5, y + 12, f"{kept} of {filters}", "start"),
        "</g>",
    ]
    return "".join(parts)


def _legend(x: float, y: float) -> str:
    return "".join(
        f'<rect x="{x + shift}" y="{y - 9}" width="10" height="10" fill="{colour}"/>'
        + _text(x + shift + 14, y, label, "start")
        for shift, colour, label in ((0, KEPT, "kept"), (62, REMOVED, "removed"))
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = "#767676") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _svg(title: str, alt: str, height: float, parts: Sequence[str]) -> str:
    heading = f'<text x="0" y="14" class="heading">{escape(title)}</text>'
    return (
        f'<svg role="img" aria-label="{escape(alt)}" viewBox="0 0 {_WIDTH} {height:g}" '
        f'xmlns="http://www.w3.org/2000/svg"><desc>{escape(alt)}</desc>{heading}{"".join(parts)}</svg>'
    )
