"""Pictures of the report, as SVG that stands in the page: sharp on a phone and on paper."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from ..envs.rendering import KEPT, REMOVED

_WIDTH = 400
"""Of all pictures, in units of which a phone shows about one a pixel."""

_ROW = 18
_NAMES, _COUNTS = 128, 68
_LONGEST_NAME = 19

_HEIGHT = 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 8, 28, 40


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
    low, high = min(y for _, y in points), max(y for _, y in points)
    span, last = (high - low) or 1.0, points[-1][0]
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - points[0][0]) / (last - points[0][0])
        return _LEFT + wide * across, _TOP + tall * (1 - (y - low) / span)

    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (place(x, y) for x, y in points))
    floor = _TOP + tall
    parts = [
        _line(_LEFT, _TOP, _LEFT, floor),
        _line(_LEFT, floor, _LEFT + wide, floor),
        f'<polyline points="{path}" fill="none" stroke="{KEPT}" stroke-width="2" stroke-linejoin="round"/>',
        _text(_LEFT - 5, _TOP + 4, _short(high), "end"),
        _text(_LEFT - 5, floor, _short(low), "end"),
        _text(_LEFT, floor + 15, f"{points[0][0]}", "middle"),
        _text(_LEFT + wide, floor + 15, f"{last}", "end"),
        _text(_LEFT + wide / 2, floor + 30, by, "middle"),
    ]
    alt = f"{what} by {by}: {points[0][1]:.3g} at {by} {points[0][0]}, {points[-1][1]:.3g} at {by} {last}."
    return _svg(f"{what} by {by}", alt, _HEIGHT, parts)


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


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#767676"/>'


def _svg(title: str, alt: str, height: float, parts: Sequence[str]) -> str:
    heading = f'<text x="0" y="14" class="heading">{escape(title)}</text>'
    return (
        f'<svg role="img" aria-label="{escape(alt)}" viewBox="0 0 {_WIDTH} {height:g}" '
        f'xmlns="http://www.w3.org/2000/svg"><desc>{escape(alt)}</desc>{heading}{"".join(parts)}</svg>'
    )
