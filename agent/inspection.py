"""A network's layers on a page: what can go, what goes with it, what stays and why."""

from collections import Counter
from typing import Any

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from ..envs.cost import cost
from ..envs.tracing import TracedNetwork
from .report_numbers import in_percent


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


def page(description: dict[str, Any]) -> RenderableType:
    """Lay out what :func:`describe` gave."""
    shape = "x".join(map(str, description["input_shape"]))
    layers = Table(
        title=f"{description['model']} at {shape}: {description['macs'] / 1e6:.1f} M MACs, "
        f"{description['params'] / 1e6:.2f} M parameters, {description['filters']} prunable filters in "
        f"{len(description['layers'])} layers",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    layers.add_column("layer")
    layers.add_column("filters", justify="right")
    layers.add_column("MACs with it", justify="right")
    layers.add_column("coupled producers")
    layers.add_column("read by")
    for layer in description["layers"]:
        layers.add_row(
            layer["name"],
            str(layer["filters"]),
            f"{layer['macs_share']:.1%}",
            _shortened([name for name in layer["producers"] if name != layer["name"]]),
            _shortened(layer["consumers"]),
        )
    if not description["pinned"]:
        return layers
    pinned = Table(title="pinned", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("producer", "filters that stay", "because", "operation", "source"):
        pinned.add_column(column)
    for row in description["pinned"]:
        where = f"{row['reason']}" + (f", in {row['module']}" if row["module"] else "")
        pinned.add_row(
            row["name"], f"{row['pinned']} of {row['filters']}", where, row["operation"], row["source"]
        )
    return Group(layers, pinned)


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


def _shortened(names: list[str], most: int = 4) -> str:
    """Name a few, count the rest; repetitions of a pattern such as layer1.*.conv2 take one entry."""
    patterns = Counter(_pattern(name) for name in names)
    merged: dict[str, None] = {}
    for name in names:
        pattern = _pattern(name)
        merged[f"{pattern} ({patterns[pattern]})" if patterns[pattern] > 1 else name] = None
    shown = list(merged)[:most]
    return ", ".join(shown) + (f", and {len(merged) - most} more" if len(merged) > most else "")


def _pattern(name: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in name.split("."))
