"""The results of a comparison: as JSON, as an HTML page, as a picture, and as a table on the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich import box
from rich.table import Table
from rich.text import Text

from ...envs.io.atomic_write import write_atomically
from ...envs.io.run_files import COMPARISON
from ...envs.io.untrusted import parse_json, read_text
from ...envs.io.wording import counted
from .comparability import sentences
from .comparison_figure import figure_of_comparison
from .comparison_rows import table_rows
from .formatting import figures, in_percent, large, percent, signed
from .html import TEMPLATES
from .report import plain_values
from .svg import inline_svg

PAGE, PICTURE = "compare.html", "compare.png"

HEADINGS = (
    "system",
    "target",
    "{metric}",
    "change",
    "MACs",
    "params",
    "nonzero",
    "latency",
    "file",
    "passes",
    "s",
)

BELOW = (
    "Target, {metric} on test and shares in percent, change in points, ± standard deviation over seeds. "
    "MACs, parameters, latency (batch 1, median) and file are shares of the dense network's, nonzero of "
    "the network's own weights. Passes over the training images; seconds of the whole run."
)

_MEMBER_HEADINGS = ("run", "{metric}", "change", "its 95 % interval", "MACs", "latency", "file", "passes")

_LONGEST_HEADING = 10
"""Letters of the longest name of a metric that is a heading."""

_DASH = "\N{EN DASH}"

Content = Mapping[str, Any]


def comparison_content(members: Sequence[Mapping[str, Any]], **about: Any) -> dict[str, Any]:
    """Return the content of ``compare.json``.

    Args:
        members: A row for each run; see :func:`.comparison_rows.member_row`.
        **about: ``model``, ``data``, ``metric``, ``dense`` (accuracy, loss, macs, params, file_bytes,
            nonzero), ``epochs``, ``effort``, ``seeds``, ``command``, ``device`` and ``versions``.
    """
    rows = table_rows(members)
    said = sentences(rows, members, about["epochs"])
    content: dict[str, Any] = plain_values(
        {**about, "table": rows, "not_comparable": said, "members": list(members)}
    )
    return content


def write_comparison(folder: Path, content: Content) -> None:
    """Write ``compare.html``, ``compare.png`` and, last, ``compare.json``, each atomically.

    Args:
        folder: An existing folder.
        content: Content of ``compare.json``.
    """
    figure = _figure(content)
    html = comparison_page(content)
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(folder / PICTURE, lambda aside: figure.savefig(aside, dpi=150, format="png"))
    write_atomically(folder / PAGE, lambda aside: aside.write_text(html, encoding="utf-8"))
    write_atomically(folder / COMPARISON, lambda aside: aside.write_text(text, encoding="utf-8"))


def rewrite_comparison_page(folder: Path) -> Path:
    """Rewrite ``compare.html`` of a finished comparison from its ``compare.json``; return its path.

    Raises:
        ValueError: If its ``compare.json`` is damaged.
    """
    try:
        html = comparison_page(read_comparison(folder))
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"{folder / COMPARISON} does not describe a comparison: {error!r}") from error
    write_atomically(folder / PAGE, lambda aside: aside.write_text(html, encoding="utf-8"))
    return folder / PAGE


def read_comparison(folder: Path) -> dict[str, Any]:
    """Read the ``compare.json`` of a finished comparison.

    Raises:
        ValueError: If it is damaged.
    """
    path = folder / COMPARISON
    try:
        content = parse_json(read_text(path))
        if not isinstance(content, dict) or not {"table", "members", "dense"} <= set(content):
            raise ValueError("it is not the content of a comparison")
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return content


def comparison_table(content: Content) -> Table:
    """Return the table for the terminal, at most 100 columns wide with names of up to 21 characters."""
    title = Text(f"{_title(content)}; {counted(content['epochs'], 'pass', 'passes')} each")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for heading in _headings(HEADINGS, content):
        table.add_column(heading, justify="left" if heading == "system" else "right", no_wrap=True)
    for row in cells(content):
        table.add_row(*map(Text, row))
    failed = [
        f"{row['method']} at {_target(row)} %: {row['failed']}" for row in content["table"] if row["failed"]
    ]
    said = [*failed, *content["not_comparable"]]
    caption = "\n".join([_below(content), *(f"* {each}" for each in said)])
    table.caption, table.caption_justify = Text(caption), "left"
    return table


def markdown(content: Content) -> str:
    """Return the table and the sentences as Markdown, for TensorBoard."""
    lines = [f"| {' | '.join(_headings(HEADINGS, content))} |", f"|{'---|' * len(HEADINGS)}"]
    lines += [f"| {' | '.join(row)} |" for row in cells(content)]
    return "\n".join([*lines, "", _below(content), "", *(f"* {each}" for each in content["not_comparable"])])


def comparison_page(content: Content) -> str:
    """Return the self-contained HTML page."""
    alt = (
        f"The {content['metric']} of each system over MACs, latency, file size and training. "
        "The numbers are in the table."
    )
    members = content["members"]
    return TEMPLATES.get_template("compare.html.jinja").render(
        title=_title(content),
        lead=f"The same network, data, size and {counted(content['epochs'], 'pass', 'passes')} over the "
        "training images each.",
        headings=_headings(HEADINGS, content),
        rows=cells(content),
        below=_below(content),
        figure=Markup(inline_svg(_figure(content), "comparison", alt)),
        sentences=content["not_comparable"],
        member_headings=_headings(_MEMBER_HEADINGS, content),
        members=[_member_cells(member) for member in members if not member["failed"]],
        failed=[(member["folder"], member["failed"]) for member in members if member["failed"]],
        notes=[
            (member["folder"], note)
            for member in members
            for note in (*member.get("notes", ()), *_loading_note(member))
        ],
        command=content["command"],
        machine=[
            *figures({"device": content["device"]}),
            *figures(dict(sorted(content["versions"].items()))),
        ],
    )


def cells(content: Content) -> list[list[str]]:
    """Return the rows of the table as texts, the dense network first."""
    dense = content["dense"]
    accuracy, nonzero = dense["accuracy"], _number(dense["nonzero"])
    first = ["dense", "", f"{accuracy:.2f}", "", "100.0", "100.0", nonzero, "100.0", "100.0", "", ""]
    return [first, *(_row_cells(row) for row in content["table"])]


def _row_cells(row: Mapping[str, Any]) -> list[str]:
    if not row["seeds"]:
        return [row["method"], _target(row), "failed", *[""] * (len(HEADINGS) - 3)]
    accuracy, drop = row["accuracy"], row["accuracy_drop"]
    spread = "" if accuracy["deviation"] is None else f" ±{accuracy['deviation']:.2f}"
    number = "" if accuracy["mean"] is None else f"{accuracy['mean']:.2f}"
    change = _DASH if drop["mean"] is None else signed(-drop["mean"], 2)
    shares = ("macs_ratio", "params_ratio", "nonzero", "latency_ratio", "file_ratio")
    return [
        row["method"],
        _target(row),
        f"{number}{spread}" if number else _DASH,
        change,
        *(_number(row[name]["mean"]) for name in shares),
        f"{row['epochs']['mean']:.3g}",
        f"{row['seconds']['mean']:,.0f}",
    ]


def _member_cells(member: Mapping[str, Any]) -> list[str]:
    interval = member["accuracy_drop_interval"]
    ends = _DASH if interval is None else f"{signed(-interval[1], 2)} to {signed(-interval[0], 2)}"
    drop = member["accuracy_drop"]
    return [
        member["folder"],
        in_percent(member["accuracy"]),
        _DASH if drop is None else signed(-drop, 2),
        ends,
        _share(member["macs_ratio"]),
        _share(member["latency_ratio"]),
        f"{large(member['file_bytes'])}B",
        f"{member['epochs']:.3g}",
    ]


def _loading_note(member: Mapping[str, Any]) -> list[str]:
    reason = member.get("not_loadable")
    return [f"Its network cannot be rebuilt from its folder: {reason}."] if reason else []


def _figure(content: Content) -> Any:
    accuracy = content["dense"]["accuracy"]
    return figure_of_comparison(content["table"], accuracy, _title(content), content["metric"])


def _headings(headings: Sequence[str], content: Content) -> list[str]:
    """Put the name of the metric into headings; a long one is only named below the table."""
    metric = content["metric"]
    shown = metric if len(metric) <= _LONGEST_HEADING else "metric"
    return [shown if heading == "{metric}" else heading for heading in headings]


def _below(content: Content) -> str:
    return BELOW.replace("{metric}", content["metric"])


def _title(content: Content) -> str:
    return f"{content['model']} on {content['data']}"


def _target(row: Mapping[str, Any]) -> str:
    return f"{100 * row['target']:.3g}"


def _number(ratio: float | None) -> str:
    return _DASH if ratio is None else f"{100 * ratio:.1f}"


def _share(ratio: float | None) -> str:
    return _DASH if ratio is None else percent(ratio)
