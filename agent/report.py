"""The report of a run: as JSON, as a page, as a table on the terminal."""

import json
import math
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ..envs.files import write_aside
from .report_numbers import comparison, details, metric_of
from .report_page import page


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write ``report.json`` and ``report.html``, each aside first and then renamed.

    Args:
        folder: An existing folder.
        report: ``model``, ``data``, ``method``, ``device``, ``command`` and ``seed``; ``dense`` and
            ``pruned`` with ``accuracy`` (percent), ``loss``, ``macs``, ``params``, ``filters``,
            ``latency_ms`` and perhaps ``predicted_latency_ms``; ``ratios`` of macs, params, filters and
            latency_ms; ``latency`` with ``batch``, ``threads`` and ``dtype``; ``accuracy_drop``, percentage
            points, perhaps with ``accuracy_drop_interval`` (low, high) and ``drop_bound`` (``bound`` and
            ``met``: yes, no or undecided); ``layers`` with ``name``, ``filters`` and ``kept``; ``search`` and
            ``recovery``, figures by name; ``splits`` with sizes and ``notes``; ``versions``; ``pinned`` with
            ``name``, ``pinned``, ``filters`` and ``cause``. Where they are there, ``metric`` names the
            accuracy, ``details`` with ``name``, ``dense`` and ``pruned`` (percent or None) become a table of
            classes or outputs, ``unrounded`` with ``macs_ratio`` and ``latency_ms`` a line of the comparison,
            ``search["rewards"]`` (one an update) and ``recovery["losses"]`` (one an epoch) are drawn, and
            ``num_outputs`` and ``input_shape`` complete the lines that load the network.
    """
    text = json.dumps(_plain(report), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    html = page(report, folder)
    write_aside(folder / "report.json", lambda aside: aside.write_text(text, encoding="utf-8"))
    write_aside(folder / "report.html", lambda aside: aside.write_text(html, encoding="utf-8"))


def table(report: dict[str, Any]) -> Table:
    """Compare the dense and the pruned network on the terminal.

    Args:
        report: As for :func:`write_report`.
    """
    title = Text(f"{report['model']} on {report['data']}, pruned by {report['method']}")
    shown = Table("", title=title, title_justify="left")
    for heading in ("dense", "pruned", "ratio"):
        shown.add_column(heading, justify="right")
    for row in comparison(report):
        shown.add_row(row.label, row.dense, row.pruned, row.ratio)
    return shown


def details_table(report: dict[str, Any]) -> Table:
    """Compare both networks on the terminal, each class or output by itself.

    Args:
        report: As for :func:`write_report`.
    """
    shown = Table("", title=Text(f"test {metric_of(report)} of each"), title_justify="left")
    for heading in ("dense", "pruned", "change"):
        shown.add_column(heading, justify="right")
    for row in details(report):
        shown.add_row(Text(row.label), row.dense, row.pruned, row.ratio)
    return shown


def _plain(value: Any) -> Any:
    """Turn numbers of NumPy into Python's, tuples into lists, and what JSON cannot say into null."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
