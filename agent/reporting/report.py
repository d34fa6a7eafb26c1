"""The report of a run: as JSON, as an HTML page, and as a table on the terminal."""

import json
import math
import re
from pathlib import Path
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from ...envs.io.atomic_write import write_atomically
from ...envs.io.run_files import CONFIG, PAGE, REPORT, no_run, not_finished
from ...envs.io.untrusted import parse_json, read_text
from .formatting import comparison, details, details_heading, metric_of, remarks_below
from .html import page

_LABEL_WIDTH = 27
"""Columns of a label on the terminal, so that the table fits into 80."""

MOST_DETAILS = 20
"""Classes or outputs that the terminal shows; the page shows all."""

_LIST_OF_NUMBERS = re.compile(r"\[\n[-+.\deE,\s]+\]")
"""Lists of numbers in indented JSON, to be written on one line each; strings contain no such line break."""


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write ``report.json`` and ``report.html``, each atomically.

    Args:
        folder: An existing folder.
        report: ``model``, ``data``, ``method``, ``device``, ``command`` and ``seed``; ``dense`` and
            ``pruned`` with ``accuracy`` (percent), ``loss``, ``macs``, ``params``, ``filters``,
            ``latency_ms``; ``ratios`` of macs, params, filters and latency_ms; ``latency`` with ``batch``,
            ``threads`` and ``dtype``; ``accuracy_drop``, percentage points; ``layers`` with ``name``,
            ``filters`` and ``kept``; ``search`` and ``recovery``, values by name; ``splits`` with sizes and
            ``notes``; ``versions``; ``pinned`` with ``name``, ``pinned``, ``filters`` and ``cause``.

            Optional, as older versions have not all of them: ``inexact``, the normalisations whose averages
            the cut may have changed; ``attributes``, the new values of those that the cut has rewritten, by
            name; ``accuracy_drop_interval`` (low, high) and ``drop_bound`` (``bound`` and ``met``: yes, no or
            undecided; ``on_val`` with ``drop``, ``interval`` and ``met`` on ``images`` of val, whether they
            were ``unseen`` before, all sizes that were ``checked``, and the ``forecasts`` after short
            recoveries); ``throughput`` like ``latency``, both with ``busy``; in ``dense`` and ``pruned``
            ``images_per_second``, ``file_bytes``, ``predicted_latency_ms``, and the quartiles
            ``latency_spread_ms`` and ``images_per_second_spread``; ``metric``, the name of the accuracy;
            ``details`` with ``name``, ``dense`` and ``pruned`` (percent or None), a table of classes or
            outputs; ``remarks`` with ``about`` and ``text``; ``unrounded`` with ``macs_ratio`` and
            ``latency_ms``; ``search["rewards"]`` (one per update) and ``recovery["losses"]`` (one per epoch),
            drawn as curves; ``int8`` with ``accuracy``, ``loss`` and ``accuracy_drop`` of the pruned network
            under fake quantisation; ``blocks`` with the ``total`` of those that could go, the names of those
            that were ``dropped``, and what was ``tried``, rows of ``blocks``, ``decider`` and ``accuracy`` on
            val;
            ``search["best_heuristic"]`` with ``name`` and ``val_accuracy``, measured on the
            ``recovery["val_accuracy_before"]`` and ``..._after``
            fine-tuning; ``classes``, ``normalisation`` (``mean`` and ``std`` for pixels in [0, 1]) and
            ``augmentation``; ``built_by_name``, ``num_outputs`` and ``input_shape``, for the code that loads
            the network.
    """
    text = (
        json.dumps(plain_values(report), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    )
    text = _LIST_OF_NUMBERS.sub(lambda match: " ".join(match[0].split()), text)
    html = page(report, folder)
    write_atomically(folder / REPORT, lambda aside: aside.write_text(text, encoding="utf-8"))
    write_atomically(folder / PAGE, lambda aside: aside.write_text(html, encoding="utf-8"))


def rewrite_page(folder: Path) -> Path:
    """Rewrite ``report.html`` of a finished run from its ``report.json``.

    Args:
        folder: Folder of the run.

    Returns:
        The path of the page.

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
        ValueError: If the run is not finished, or the file is not a JSON object.
    """
    path = folder / REPORT
    if not path.is_file():
        if (folder / CONFIG).is_file():
            raise ValueError(not_finished(folder, REPORT))
        raise ValueError(no_run(folder, REPORT))
    try:
        report = parse_json(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(report, dict):
        raise ValueError(f"{path} is damaged: it is not a JSON object")
    return report


def table(report: dict[str, Any]) -> Table:
    """Return the table that compares the dense and the pruned network.

    Args:
        report: As for :func:`write_report`.
    """
    title = Text(f"{report['model']} on {report['data']}, pruned by {report['method']}")
    rows = Table(Column(max_width=_LABEL_WIDTH), title=title, title_justify="left")
    for heading in ("dense", "pruned", "ratio"):
        rows.add_column(heading, justify="right")
    for row in comparison(report):
        rows.add_row(Text(row.label), row.dense, row.pruned, row.ratio)
    rows.caption, rows.caption_justify = Text("\n".join(remarks_below(report))), "left"
    return rows


def details_table(report: dict[str, Any]) -> Table:
    """Return the table that compares both networks by class or output: all, or those that change most.

    Args:
        report: As for :func:`write_report`.
    """
    found, title = report["details"], details_heading(report)
    if len(found) > MOST_DETAILS:
        title = f"test {metric_of(report)} of the {MOST_DETAILS} of {len(found)} that change most"
        found = sorted(found, key=_change, reverse=True)[:MOST_DETAILS]
    rows = Table("", title=Text(title), title_justify="left")
    for heading in ("dense", "pruned", "change"):
        rows.add_column(heading, justify="right")
    for row in details(report | {"details": found}):
        rows.add_row(Text(row.label), row.dense, row.pruned, row.ratio)
    return rows


def _change(detail: dict[str, Any]) -> float:
    values = (detail["dense"], detail["pruned"])
    return 0.0 if None in values else abs(values[0] - values[1])


def _with_undefined(report: dict[str, Any]) -> dict[str, Any]:
    """Restore NaN in measurements, which JSON stores as null."""

    def number(value: Any) -> Any:
        return math.nan if value is None else value

    def curve(stage: dict[str, Any]) -> dict[str, Any]:
        return {
            key: [number(entry) for entry in value] if key in ("rewards", "losses") else value
            for key, value in stage.items()
        }

    measured = {
        key: {name: number(value) for name, value in report[key].items()}
        for key in ("dense", "pruned", "ratios")
    }
    drop = number(report["accuracy_drop"])
    stages = {key: curve(report[key]) for key in ("search", "recovery")}
    return report | measured | stages | {"accuracy_drop": drop}


def plain_values(value: Any, *, undefined: float | None = None) -> Any:
    """Convert NumPy numbers to Python's, tuples to lists, and non-finite numbers.

    Args:
        value: Numbers and texts in dictionaries, lists and tuples.
        undefined: What stands for numbers that are not finite.
    """
    if isinstance(value, dict):
        return {str(key): plain_values(entry, undefined=undefined) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(entry, undefined=undefined) for entry in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return undefined
    return str(value) if isinstance(value, Path) else value
