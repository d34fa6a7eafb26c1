"""A description of a traced network: prunable layers, coupled layers, and pinned filters with the reasons."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from ...envs.cost.counts import cost
from ...envs.io.wording import counted
from ...envs.tracing import Cause, TracedNetwork
from ...envs.tracing.blocks import Block
from ...envs.tracing.naming import abbreviated
from ...envs.tracing.pinned import SHORT, PinnedLayer, sum_up
from ...envs.tracing.reach import UNREACHED
from .formatting import UNDEFINED, in_percent, large

BUSY = "The machine was busy with other work while this was timed, so the speed is uncertain."

_MOST_REASONS = 12
"""Reasons for pinned filters that a page gives."""

_NARROW = 40
"""Columns beside a layer's numbers below which long names go on the next lines."""


def describe(
    name: str, shape: tuple[int, ...], network: TracedNetwork, blocks: Sequence[Block] = ()
) -> dict[str, Any]:
    """Return a trace as plain data.

    Args:
        name: Name of the network.
        shape: Shape of one input, (C, H, W).
        network: The trace.
        blocks: The residual blocks.

    Returns:
        ``macs``, ``params``, ``filters``, ``prunable_share``; ``layers`` with ``macs_share``, the share of
        all MACs that is removed if the layer keeps one filter; ``pinned`` with the cause; ``attributes``, the
        names of those that a cut rewrites; ``blocks`` with the ``macs`` of the branch and the ``refusal``,
        why it cannot go, "" if it can; ``unreached``, the modules that no traced call reaches; ``notes``
        for the user.
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
        "unreached": list(network.unreached),
        "notes": list(network.notes),
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
        "blocks": [
            {"name": block.name, "macs": round(block.macs), "refusal": block.refusal} for block in blocks
        ],
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
    if blocks := [block["name"] for block in description["blocks"] if not block["refusal"]]:
        said = f"Residual blocks that can go as a whole (--drop-blocks), {len(blocks)}: {abbreviated(blocks)}"
        lines += ["", *_wrapped(said, width)]
    if attributes := description["attributes"]:
        lines += ["", *_wrapped(f"Attributes that a cut rewrites: {abbreviated(attributes)}", width)]
    for note in description["notes"]:
        lines += ["", *_wrapped(note, width)]
    if description["pinned"]:
        lines += ["", "Pinned filters, and the reasons", *_pinned_lines(description["pinned"], width)]
    return "\n".join(lines)


def _removable(description: dict[str, Any]) -> str:
    count = len(description["layers"])
    if not count:
        return "No filter can be removed."
    layers = counted(count, "layer")
    return (
        f"{counted(description['filters'], 'filter')} in {layers} can be removed, "
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
    """List the pinned filters by reason, those of most filters if there are many."""
    layers = [
        PinnedLayer(
            row["name"],
            row["filters"],
            row["pinned"],
            0,
            Cause(row["reason"], row["operation"], row["module"], row["source"]),
        )
        for row in pinned
    ]
    entries = sum_up(layers)
    shown = sorted(entries, key=lambda entry: -entry.pinned)[:_MOST_REASONS]
    lines = []
    for entry in (entry for entry in entries if entry in shown):
        reason, operation, modules = entry.cause.reason, entry.cause.operation, entry.cause.module
        by = (operation if operation != UNREACHED else "") + (f" in {modules}" if modules else "")
        by = "" if operation == "output" else by.strip()
        cause = "; ".join(filter(None, [reason, by, entry.cause.source]))
        lines += _wrapped(abbreviated(entry.names, SHORT), width)
        lines += _wrapped(f"{entry.pinned} of {entry.filters} filters: {cause}", width, 4)
    if more := len(entries) - len(shown):
        lines.append(f"and {more} more reasons; --json lists all")
    return lines


def pinned_markdown(network: TracedNetwork) -> str:
    """Return the pinned filters and the reasons as a Markdown table.

    Args:
        network: The traced network.
    """
    rows = [
        (
            f"`{abbreviated(entry.names, SHORT)}`",
            f"{entry.pinned} of {entry.filters}",
            str(entry.cause).replace("|", "\\|"),
        )
        for entry in sum_up(network.pinned)
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
    if measured["accuracy_int8"] is not None:
        table.add_row(f"{measured['metric']}, int8", f"{measured['accuracy_int8']:.2f} %")
    table.add_row("loss", f"{measured['loss']:.4f}")
    table.add_row("MACs", f"{measured['macs']:,}")
    table.add_row("parameters", f"{measured['params']:,}")
    table.add_row("prunable filters", f"{measured['filters']:,}")
    speed = latency = UNDEFINED
    if not math.isnan(measured["latency_ms"]):
        low, high = measured["images_per_second_spread"]
        speed = f"{measured['images_per_second']:,.0f} images/s (quartiles {low:,.0f} to {high:,.0f})"
        low, high = measured["latency_spread_ms"]
        latency = f"{measured['latency_ms']:.3f} ms (quartiles {low:.3f} to {high:.3f})"
    table.add_row("throughput", f"{speed} {_as_timed(measured['throughput'])}")
    table.add_row("latency", f"{latency} {_as_timed(measured['latency'])}")
    if measured["throughput"]["busy"] or measured["latency"]["busy"]:
        table.caption, table.caption_justify = BUSY, "left"
    return table


def _as_timed(settings: dict[str, Any]) -> str:
    """Return how something was timed: ``at a batch of 64, on 1 thread, in float32``."""
    threads = counted(settings["threads"], "thread")
    return f"at a batch of {settings['batch']}, on {threads}, in {settings['dtype']}"
