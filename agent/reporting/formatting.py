"""Formatting of numbers with units and significant digits."""

import math
from dataclasses import dataclass
from typing import Any

_UNITS = {"seconds": "s", "accuracy": "%", "drop": "points"}
"""Units by the last word of a value's name."""

_MET = {"yes": "kept", "no": "exceeded", "undecided": "undecided"}


@dataclass(frozen=True)
class Row:
    """One row of the comparison.

    Args:
        label: Name of the compared quantity.
        dense: Value of the dense network.
        pruned: Value of the pruned network.
        ratio: Pruned / dense, or the difference if a ratio has no meaning.
    """

    label: str
    dense: str
    pruned: str
    ratio: str


def comparison(report: dict[str, Any]) -> list[Row]:
    """Return the rows of the comparison; see :func:`secateur.agent.reporting.report.write_report`."""
    dense, pruned, ratios = report["dense"], report["pruned"], report["ratios"]
    change = signed(-report["accuracy_drop"], 2) + " points"
    latency = report["latency"]
    threads = "1 thread" if latency["threads"] == 1 else f"{latency['threads']} threads"
    rows = [
        Row(f"test {metric_of(report)}", f"{dense['accuracy']:.2f} %", f"{pruned['accuracy']:.2f} %", change),
        *_accuracy_rows(report),
        Row(
            "test loss",
            f"{dense['loss']:.4f}",
            f"{pruned['loss']:.4f}",
            signed(pruned["loss"] - dense["loss"], 4),
        ),
        Row("MACs", large(dense["macs"]), large(pruned["macs"]), percent(ratios["macs"])),
        Row("parameters", large(dense["params"]), large(pruned["params"]), percent(ratios["params"])),
        Row("filters", f"{dense['filters']:,}", f"{pruned['filters']:,}", percent(ratios["filters"])),
        Row(
            f"latency, batch {latency['batch']}, {threads}, {latency['dtype']}",
            f"{dense['latency_ms']:.3g} ms",
            f"{pruned['latency_ms']:.3g} ms",
            percent(ratios["latency_ms"]),
        ),
    ]
    if "predicted_latency_ms" in dense:
        before, after = dense["predicted_latency_ms"], pruned["predicted_latency_ms"]
        rows.append(Row("predicted latency", f"{before:.3g} ms", f"{after:.3g} ms", percent(after / before)))
    if unrounded := report.get("unrounded"):
        label = f"latency without rounding, at {percent(unrounded['macs_ratio'])} of the MACs"
        ratio = percent(unrounded["latency_ms"] / dense["latency_ms"])
        rows.append(Row(label, f"{dense['latency_ms']:.3g} ms", f"{unrounded['latency_ms']:.3g} ms", ratio))
    return rows


def _accuracy_rows(report: dict[str, Any]) -> list[Row]:
    """Return the rows for the interval of the accuracy change and for the drop bound."""
    rows = []
    if interval := change_interval(report):
        rows.append(Row("its 95 % interval, points", "", "", interval))
    if bound := report.get("drop_bound"):
        rows.append(Row("bound on the drop", "", f"{bound['bound']:g} points", _MET[bound["met"]]))
    return rows


def change_interval(report: dict[str, Any]) -> str:
    """Format the 95 % interval of the accuracy change, percentage points; "" if there is none."""
    interval = report.get("accuracy_drop_interval")
    return "" if interval is None else f"{signed(-interval[1], 2)} to {signed(-interval[0], 2)}"


def metric_of(report: dict[str, Any]) -> str:
    """Return the name of the accuracy."""
    return str(report.get("metric", "accuracy"))


def details(report: dict[str, Any]) -> list[Row]:
    """Return a row for each class or output of the task; the last column is the change."""
    rows = []
    for detail in report.get("details", ()):
        dense, pruned = detail["dense"], detail["pruned"]
        change = "" if dense is None or pruned is None else signed(pruned - dense, 2) + " points"
        rows.append(Row(str(detail["name"]), in_percent(dense), in_percent(pruned), change))
    return rows


def in_percent(value: float | None) -> str:
    """Format a percentage; a dash if it is undefined."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.2f} %"  # noqa: RUF001


def figures(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the numbers and strings in ``values`` as pairs of label and value with unit."""
    return [
        (key.replace("_", " "), _with_unit(key, value))
        for key, value in values.items()
        if not _is_group(value)
    ]


def large(count: float) -> str:
    """Format a count with three digits and a prefix: ``2.83 M``."""
    if count < 1000:
        return f"{count:g}"
    power = min(4, int(math.log10(count) / 3))
    if round(count / 1000**power, 2) >= 1000 and power < 4:
        power += 1
    return f"{count / 1000**power:.3g} {' kMGT'[power]}"


def percent(ratio: float) -> str:
    """Format a ratio as a percentage: ``49.8 %``."""
    return f"{ratio:.1%}".replace("%", " %")


def signed(change: float, digits: int) -> str:
    """Format a change with its sign; the minus is the typographic one."""
    return f"{round(change, digits) + 0.0:+.{digits}f}".replace("-", "−")  # noqa: RUF001


def _is_group(value: Any) -> bool:
    return isinstance(value, (dict, list, tuple)) or value is None


def _with_unit(key: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    unit = _UNITS.get(key.removesuffix("_before").removesuffix("_after").rpartition("_")[2], "")
    digits = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
    return f"{digits} {unit}".rstrip()
