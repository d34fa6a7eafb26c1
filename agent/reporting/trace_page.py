"""A description of a traced network: prunable layers, coupled layers, and pinned filters with the reasons."""

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
from .formatting import in_percent, large

BUSY = "The machine was busy with other work while this was timed, so the speed is uncertain."

_NARROW = 40
"""Columns beside a layer's numbers below which long names go on the next lines."""


def describe(name: str, shape: tuple[int, ...], network: TracedNetwork) -> dict[str, Any]:
    """Return a trace as plain data.

    Args:
        name: Name of the network.
        shape: Shape of one input, (C, H, W).
        network: The trace.

    Returns:
        ``macs``, ``params``, ``filters``, ``prunable_share``; ``layers`` with ``macs_share``, the share of
        all MACs that is removed if the layer keeps one filter; ``pinned`` with the cause; ``attributes``, the
        names of those that a cut rewrites.
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
        "attributes": [size.path for size in network.sizes],
    }


def page(description: dict[str, Any], width: int) -> str:
    """Format the result of :func:`describe` as plain text.

    Args:
        description: Description of a network.
        width: Width in columns, at least 40; only longer names exceed it.
    """
    layers, shape = description["layers"], "x".join(map(str, description["input_shape"]))
    macs, params = (large(description[key]) for key in ("macs", "params"))
    head = [f"{description['model']} at {shape}: {macs} MACs, {params} parameters.", _removable(description)]
    legend = (
        "MACs: share of all MACs that is removed if the layer keeps one filter; "
        "= other producers that lose the same filters; > consumers"
    )
    lines = [line for text in (*head, *([legend] if layers else [])) for line in _wrapped(text, width)]
    if layers:
        longest = max(len(layer["name"]) for layer in layers)
        lines += ["", f"{'layer':{longest}}  filters    MACs"]
        for layer in layers:
            lines += _layer(layer, longest, width)
    if attributes := description["attributes"]:
        lines += ["", *_wrapped(f"Attributes that a cut rewrites: {abbreviated(attributes)}", width)]
    if description["pinned"]:
        lines += ["", "Pinned filters, and the reasons", *_pinned_lines(description["pinned"], width)]
    return "\n".join(lines)


def _removable(description: dict[str, Any]) -> str:
    count = len(description["layers"])
    if not count:
        return "No filter can be removed."
    layers = "1 layer" if count == 1 else f"{count} layers"
    return (
        f"{description['filters']} filters in {layers} can be removed, "
        f"{description['prunable_share']:.1%} of all channels except the outputs."
    )


def _layer(layer: dict[str, Any], longest: int, width: int) -> list[str]:
    """Format a layer's numbers, with its coupled producers and consumers beside or below them."""
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


def _pinned_lines(pinned: list[dict[str, Any]], width: int) -> list[str]:
    """List the pinned filters, grouped by cause."""
    causes: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in pinned:
        causes[tuple(row[key] for key in ("reason", "operation", "module", "source"))].append(row)
    lines = []
    for (reason, operation, module, source), rows in causes.items():
        count, filters = (sum(row[key] for row in rows) for key in ("pinned", "filters"))
        where = f" in {module}" if module else ""
        by = "" if operation == "output" else f"{operation}{where}"
        cause = "; ".join(filter(None, [reason, by, source]))
        lines += _wrapped(abbreviated(row["name"] for row in rows), width)
        lines += _wrapped(f"{count} of {filters} filters: {cause}", width, 4)
    return lines


def pinned_markdown(network: TracedNetwork) -> str:
    """Return the pinned filters and the reasons as a Markdown table.

    Args:
        network: The traced network.
    """
    rows = [
        (f"`{layer.name}`", f"{layer.pinned} of {layer.filters}", str(layer.cause).replace("|", "\\|"))
        for layer in network.pinned
    ]
    head = [("layer", "pinned filters", "reason"), ("---", "---:", "---")]
    return "\n".join(f"| {' | '.join(row)} |" for row in head + rows) if rows else "No filter is pinned."


def _wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    """Wrap text between words; continuation lines are indented by two more columns."""
    spaces = " " * indent
    return textwrap.wrap(
        text,
        width,
        initial_indent=spaces,
        subsequent_indent=spaces + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def measurements(name: str, measured: dict[str, Any]) -> Table:
    """Return a table of a network's accuracy and cost."""
    table = Table(title=name, box=box.SIMPLE_HEAD, title_justify="left", show_header=False)
    table.add_row(measured["metric"], f"{measured['accuracy']:.2f} % on {measured['images']} test images")
    for part, value in measured["details"].items():
        table.add_row(f"  {part}", in_percent(value))
    table.add_row("loss", f"{measured['loss']:.4f}")
    table.add_row("MACs", f"{measured['macs']:,}")
    table.add_row("parameters", f"{measured['params']:,}")
    table.add_row("prunable filters", f"{measured['filters']:,}")
    low, high = measured["images_per_second_spread"]
    batch = measured["throughput"]["batch"]
    speed = f"{measured['images_per_second']:,.0f} images/s (quartiles {low:,.0f} to {high:,.0f})"
    table.add_row("throughput", f"{speed} at a batch of {batch} on one thread")
    low, high = measured["latency_spread_ms"]
    latency = f"{measured['latency_ms']:.3f} ms (quartiles {low:.3f} to {high:.3f})"
    table.add_row("latency", f"{latency} for one image on one thread")
    if measured["throughput"]["busy"] or measured["latency"]["busy"]:
        table.caption, table.caption_justify = BUSY, "left"
    return table


def abbreviated(names: Iterable[str]) -> str:
    """Abbreviate a list of names by joining those that differ in one component, repeatedly.

    Args:
        names: Dotted module names.
    """
    rows = [tuple(name.split(".")) for name in dict.fromkeys(names)]
    longest = max(map(len, rows), default=0)
    for place in range(longest - 1, -1, -1):
        groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for row in rows:  # with an empty component, so that only rows of equal length match
            key = (*row[:place], "", *row[place + 1 :]) if place < len(row) else row
            groups[key].append(row[place] if place < len(row) else "")
        rows = [
            (*key[:place], _braced(values), *key[place + 1 :]) if place < len(key) else key
            for key, values in groups.items()
        ]
    return ", ".join(".".join(row) for row in rows)


def _braced(values: Sequence[str]) -> str:
    """Join alternatives in braces after their common prefix: ``branch{1,2}``."""
    if len(values) == 1:
        return values[0]
    split = [re.fullmatch(r"(.*?)(0|[1-9]\d*)", value) for value in values]
    prefixes = {match[1] for match in split if match}
    if None in split or len(prefixes) > 1 or "}" in "".join(values):
        return "{" + ",".join(values) + "}"
    numbers = sorted(int(match[2]) for match in split if match)
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{prefixes.pop()}{{{numbers[0]}-{numbers[-1]}}}"
    return prefixes.pop() + "{" + ",".join(map(str, numbers)) + "}"
