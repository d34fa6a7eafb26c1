"""Matplotlib figures as inline SVG for HTML pages; text stays text, and no other file is needed."""

import io
import re
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

_SVG, _HREF = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"

_INVALID_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that are allowed in names, but not in XML."""


def inline_svg(figure: Figure, name: str, alt: str) -> str:
    """Convert a figure to an SVG element; equal figures give equal bytes.

    Args:
        figure: The figure; its size in points becomes the view box, and the page sets the displayed size.
        name: Name that is unique on the page, as element ids are derived from it.
        alt: Text alternative for screen readers.
    """
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.sans-serif": ["DejaVu Sans"],
    }
    written = io.StringIO()
    with matplotlib.rc_context(settings):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(written, metadata=nothing)
    root = ElementTree.fromstring(_INVALID_IN_XML.sub("\N{REPLACEMENT CHARACTER}", written.getvalue()))
    for element in root.iter():
        _simplify(element)
    if (rules := root.find("defs[style]")) is not None:
        root.remove(rules)  # they would apply to the whole page; the root gets the first one below
    root.attrib = {
        "xmlns": _SVG,
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-label": alt,
        "stroke-linejoin": "round",
    }
    description = ElementTree.Element("desc")
    description.text = alt
    root.insert(0, description)
    return ElementTree.tostring(root, encoding="unicode")


def _simplify(element: ElementTree.Element) -> None:
    """Remove what a browser does not need, at least half of the bytes of most figures."""
    element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
    element.tail = None
    if element.tag not in ("text", "style"):
        element.text = None
    if element.tag == "g":
        element.attrib.pop("id", None)  # not unique on the page, and nothing refers to it
    if _HREF in element.attrib:
        element.set("href", element.attrib.pop(_HREF))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    for key in {"d", "x", "y", "transform"} & element.attrib.keys():
        numbers = " ".join(element.attrib[key].split())
        element.set(key, re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.1f}", numbers))
    marks = element.findall(f"{{{_SVG}}}use")
    if len(marks) > 1 and len(styles := {mark.get("style", "") for mark in marks}) == 1:
        element.set("style", styles.pop())  # the marks inherit it
        for mark in marks:
            mark.attrib.pop("style", None)
