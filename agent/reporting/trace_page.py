"""A network's layers on a page: what can go, what goes with it, what stays and why."""

import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from ...envs.cost.counts import cost
from ...envs.tracing import TracedNetwork
from .formatting import in_percent

_NARROW = 40
"""Columns beside a layer's numbers that are too few for names that do not fit into them."""


def describe(name: str, shape: tuple[int, ...], network: TracedNetwork) -> dict[str, Any]:
    """Put a trace into plain data.

    Args:
        name: Of the network.
        shape: Of one input, (C, H, W).
        network: The trace.

    Returns:
        ``macs``, ``params``, ``filters``, ``prunable_share``; ``layers`` with ``macs_share``, the part of all
        MACs that goes if a layer keeps one filter; ``pinned`` with the cause.
    """
    widths = network.widths
    dense = float(network.macs(widths)) or 1.0
    alone = np.maximum(1, widths[None] - np.diag(widths - 1))  # (L, L): one layer at one filter each
    shares = 1.0 - network.macs(alone) / dense
    return {
        "model": name,
        "input_shape": list(shape),
        "macs": cost(network).macs,
        "params": cost(network).params,
        "filters": int(widths.sum()),
        "prunable_share": network.prunable_share,
        "layers": [
            {
                "name": layer.name,
                "filters": layer.filters,
                "macs_share": float(share),
                "producers": list(layer.producers),
                "consumers": list(layer.consumers),
            }
            for layer, share in zip(network.layers, shares, strict=True)
        ],
        "pinned": [
            {
                "name": pinned.name,
                "pinned": pinned.pinned,
                "filters": pinned.filters,
                "reason": pinned.cause.reason,
                "operation": pinned.cause.operation,
                "module": pinned.cause.module,
                "source": pinned.cause.source,
            }
            for pinned in network.pinned
        ],
    }


def page(description: dict[str, Any], width: int) -> str:
    """Lay out what :func:`describe` gave, in plain text.

    Args:
        description: Of a network.
        width: Columns, at least 40; only names that are longer themselves go beyond.
    """
    layers, shape = description["layers"], "x".join(map(str, description["input_shape"]))
    head = [
        f"{description['model']} at {shape}: {description['macs'] / 1e6:.1f} M MACs, "
        f"{description['params'] / 1e6:.2f} M parameters.",
        f"{description['filters']} filters in {len(layers)} layers can go, "
        f"{description['prunable_share']:.1%} of all channels but the outputs.",
    ]
    legend = (
        "MACs: the part of all that goes if a layer keeps one filter; "
        "= producers that lose the same filters; > what reads them"
    )
    lines = [line for text in (*head, legend) for line in _wrapped(text, width)]
    if layers:
        longest = max(len(layer["name"]) for layer in layers)
        lines += ["", f"{'layer':{longest}}  filters    MACs"]
        for layer in layers:
            lines += _layer(layer, longest, width)
    if description["pinned"]:
        lines += ["", "What stays, and why", *_stays(description["pinned"], width)]
    return "\n".join(lines)


def _layer(layer: dict[str, Any], longest: int, width: int) -> list[str]:
    """Write a layer's numbers, and behind or below them what it is coupled with."""
    first = f"{layer['name']:{longest}}  {layer['filters']:7}  {layer['macs_share']:6.1%}"
    others = abbreviated(name for name in layer["producers"] if name != layer["name"])
    links = [
        f"{sign} {names}" for sign, names in (("=", others), (">", abbreviated(layer["consumers"]))) if names
    ]
    beside = width - len(first) - 2
    if beside < max(map(len, links), default=0) and beside < _NARROW:
        return [first, *(line for link in links for line in _wrapped(link, width, 4))]
    lines = [line for link in links for line in _wrapped(link, beside)] or [""]
    return [f"{first}  {lines[0]}".rstrip(), *(" " * (len(first) + 2) + line for line in lines[1:])]


def _stays(pinned: list[dict[str, Any]], width: int) -> list[str]:
    """List what is pinned, once for each cause."""
    causes: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in pinned:
        causes[tuple(row[key] for key in ("reason", "operation", "module", "source"))].append(row)
    lines = []
    for (reason, operation, module, source), rows in causes.items():
        stay, of = (sum(row[key] for row in rows) for key in ("pinned", "filters"))
        where = f" in {module}" if module else ""
        by = "" if operation == "output" else f"{operation}{where}"
        cause = "; ".join(filter(None, [reason, by, source]))
        lines += _wrapped(abbreviated(row["name"] for row in rows), width)
        lines += _wrapped(f"{stay} of {of} filters: {cause}", width, 4)
    return lines


def pinned_markdown(network: TracedNetwork) -> str:
    """Lay out what stays and why as a table in Markdown.

    Args:
        network: A trace.
    """
    rows = [
        (f"`{one.name}`", f"{one.pinned} of {one.filters}", str(one.cause).replace("|", "\\|"))
        for one in network.pinned
    ]
    head = [("layer", "filters that stay", "why"), ("---", "---:", "---")]
    return "\n".join(f"| {' | '.join(row)} |" for row in head + rows) if rows else "Every filter can go."


def _wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    """Break text between words; what goes on is indented by two more."""
    spaces = " " * indent
    return textwrap.wrap(
        text,
        width,
        initial_indent=spaces,
        subsequent_indent=spaces + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def measurements(name: str, found: dict[str, Any]) -> Table:
    """Lay out what one network does and costs."""
    table = Table(title=name, box=box.SIMPLE_HEAD, title_justify="left", show_header=False)
    table.add_row(found["metric"], f"{found['accuracy']:.2f} % on {found['images']} test images")
    for part, value in found["details"].items():
        table.add_row(f"  {part}", in_percent(value))
    table.add_row("loss", f"{found['loss']:.4f}")
    table.add_row("MACs", f"{found['macs']:,}")
    table.add_row("parameters", f"{found['params']:,}")
    table.add_row("prunable filters", f"{found['filters']:,}")
    table.add_row("latency", f"{found['latency_ms']:.3f} ms for one image on one thread")
    return table


def abbreviated(names: Iterable[str]) -> str:
    """Join names that differ in one component, again and again; nothing is left out.

    Args:
        names: Dotted module names.
    """
    rows = [tuple(name.split(".")) for name in dict.fromkeys(names)]
    longest = max(map(len, rows), default=0)
    for place in range(longest - 1, -1, -1):
        alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for row in rows:  # the place itself is left open, so that only rows of one length meet
            key = (*row[:place], "", *row[place + 1 :]) if place < len(row) else row
            alike[key].append(row[place] if place < len(row) else "")
        rows = [
            (*key[:place], _braced(values), *key[place + 1 :]) if place < len(key) else key
            for key, values in alike.items()
        ]
    return ", ".join(".".join(row) for row in rows)


def _braced(values: Sequence[str]) -> str:
    """Write alternatives in braces, without a beginning that they share: ``branch{1,2}``."""
    if len(values) == 1:
        return values[0]
    split = [re.fullmatch(r"(.*?)(0|[1-9]\d*)", value) for value in values]
    beginnings = {match[1] for match in split if match}
    if None in split or len(beginnings) > 1 or "}" in "".join(values):
        return "{" + ",".join(values) + "}"
    numbers = sorted(int(match[2]) for match in split if match)
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{beginnings.pop()}{{{numbers[0]}-{numbers[-1]}}}"
    return beginnings.pop() + "{" + ",".join(map(str, numbers)) + "}"
