"""The report of a run: as JSON, as a page, as a table on the terminal."""

import json
import math
import re
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ...envs.io.atomic_write import write_atomically
from ...envs.io.run_files import CONFIG, PAGE, REPORT
from ...envs.io.untrusted import parse_json, read_text
from .formatting import comparison, details, metric_of
from .html import page

_LIST_OF_NUMBERS = re.compile(r"\[\n[-+.\deE,\s]+\]")
"""Long ones are a line each, not a line a number; strings have no such line break."""


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
            ``built_by_name``, ``num_outputs`` and ``input_shape`` complete the lines that load the network.
    """
    text = json.dumps(_plain(report), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    text = _LIST_OF_NUMBERS.sub(lambda found: " ".join(found[0].split()), text)
    html = page(report, folder)
    write_atomically(folder / REPORT, lambda aside: aside.write_text(text, encoding="utf-8"))
    write_atomically(folder / PAGE, lambda aside: aside.write_text(html, encoding="utf-8"))


def rewrite_page(folder: Path) -> Path:
    """Write ``report.html`` of a finished run again, from its ``report.json`` alone.

    Args:
        folder: Of the run.

    Returns:
        Where the page is.

    Raises:
        ValueError: If the run is not finished, or its ``report.json`` is damaged.
    """
    report = read_report(folder)
    try:
        html = page(_with_undefined(report), folder)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / REPORT} does not describe a pruned network: {error!r}") from error
    write_atomically(folder / PAGE, lambda aside: aside.write_text(html, encoding="utf-8"))
    return folder / PAGE


def read_report(folder: Path) -> dict[str, Any]:
    """Read the ``report.json`` of a run.

    Raises:
        ValueError: If the run is not finished, or the file is no JSON object.
    """
    path = folder / REPORT
    if not path.is_file():
        why = "the run is unfinished" if (folder / CONFIG).is_file() else "it is the folder of no run"
        raise ValueError(f"{folder} has no report.json: {why}")
    try:
        report = parse_json(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(report, dict):
        raise ValueError(f"{path} is damaged: it holds no object")
    return report


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


def _with_undefined(report: dict[str, Any]) -> dict[str, Any]:
    """Make measurements NaN again that JSON could not say."""

    def number(value: Any) -> Any:
        return math.nan if value is None else value

    def curve(stage: dict[str, Any]) -> dict[str, Any]:
        return {
            key: [number(one) for one in value] if key in ("rewards", "losses") else value
            for key, value in stage.items()
        }

    measured = {
        key: {name: number(value) for name, value in report[key].items()}
        for key in ("dense", "pruned", "ratios")
    }
    drop = number(report["accuracy_drop"])
    stages = {key: curve(report[key]) for key in ("search", "recovery")}
    return report | measured | stages | {"accuracy_drop": drop}


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
