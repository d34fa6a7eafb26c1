"""The report as one HTML page that needs nothing else: no network, no script, no other file."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ...envs.models import list_models
from .formatting import change_interval, comparison, details, figures, metric_of, percent, signed
from .svg_figures import candidates_figure, curve_figure, layers_figure

_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 44rem;
  margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.key { display: flex; flex-wrap: wrap; gap: .75rem 2rem; margin: 1rem 0; padding: 0; list-style: none; }
.key b { display: block; font-size: 1.6rem; line-height: 1.2; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #ccc; text-align: right;
  vertical-align: top; }
th:first-child, td:first-child, .texts td, .texts th { text-align: left; }
td { white-space: nowrap; } td:first-child, .texts td { white-space: normal; }
.names td:first-child, .texts td { overflow-wrap: anywhere; }
svg { display: block; width: 100%; max-width: 36rem; height: auto; margin: .5rem 0; }
svg text { font: 11px system-ui, sans-serif; fill: #1a1a1a; }
svg .heading { font-weight: 600; font-size: 12px; }
pre { background: #f2f2f2; padding: .75rem; font-size: .85rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
@media (max-width: 30rem) { table { font-size: .875rem; } th, td { padding-right: .4rem; }
  td:last-child { white-space: normal; } }
@media print { body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; } tr, pre, svg { break-inside: avoid; } * { print-color-adjust: exact; } }
"""

# Even a name that escaped the escaping could load and run nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(report: dict[str, Any], folder: Path) -> str:
    """Write the page.

    Args:
        report: As for :func:`secateur.agent.reporting.report.write_report`.
        folder: Where the run lies, for the lines that load the network.
    """
    title = f"{report['model']} on {report['data']}, pruned by {report['method']}"
    sections = [
        _section("Dense and pruned", _comparison(report)),
        _section(f"Test {metric_of(report)} of each", _details(report)),
        _section("Layers", layers_figure(report["layers"]), _layers(report["layers"])),
        _section("Filters that have to stay", _pinned(report.get("pinned", []))),
        _section(
            "Search",
            _pairs(report["search"]),
            _candidates(report),
            _curve(report["search"], "rewards", "mean reward", "update"),
        ),
        _section(
            "Recovery", _pairs(report["recovery"]), _curve(report["recovery"], "losses", "loss", "epoch")
        ),
        _section("Data", _pairs(report["splits"], " images"), _notes(report["splits"].get("notes", ()))),
        _section("Load the pruned network", _code(loading_code(report, folder))),
        _section("Repeat the run", _code(report["command"]) if report["command"] else ""),
        _section(
            "Where it ran", _pairs({"device": report["device"], "seed": report["seed"], **report["versions"]})
        ),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{_key_figures(report)}\n{''.join(sections)}</body>\n</html>\n"
    )


def loading_code(report: dict[str, Any], folder: Path) -> str:
    """Give the lines of Python that load the pruned network."""
    name, outputs, shape = str(report["model"]), report.get("num_outputs"), report.get("input_shape")
    lines = ["from secateur.envs.surgery.cutting import load_pruned", ""]
    if (":" in name or name in list_models()) and outputs and shape:
        lines.insert(0, "from secateur.envs.models import get_model")
        dense = f"lambda: get_model({name!r}, num_classes={outputs}, in_channels={shape[0]})"
    else:
        lines.append(
            "# build_dense: your function without arguments that builds the dense network, with any weights"
        )
        dense = "build_dense"
    return "\n".join([*lines, f"model = load_pruned({dense}, {str(folder)!r})"])


def _key_figures(report: dict[str, Any]) -> str:
    ratios, sure = report["ratios"], change_interval(report)
    shown = [
        (percent(ratios["macs"]), "of the MACs"),
        (percent(ratios["params"]), "of the parameters"),
        (percent(ratios["latency_ms"]), "of the latency"),
        (
            signed(-report["accuracy_drop"], 2),
            f"points of test {metric_of(report)}" + (f" (95 %: {sure})" if sure else ""),
        ),
    ]
    return (
        '<ul class="key">' + "".join(f"<li><b>{escape(v)}</b> {escape(w)}</li>" for v, w in shown) + "</ul>"
    )


def _section(heading: str, *parts: str) -> str:
    content = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(heading)}</h2>\n{content}\n</section>\n" if content else ""


def _comparison(report: dict[str, Any]) -> str:
    rows = [(row.label, row.dense, row.pruned, row.ratio) for row in comparison(report)]
    return _table(("", "dense", "pruned", "ratio"), rows)


def _details(report: dict[str, Any]) -> str:
    rows = [(row.label, row.dense, row.pruned, row.ratio) for row in details(report)]
    return _table(("", "dense", "pruned", "change"), rows, "names") if rows else ""


def _layers(layers: Sequence[dict[str, Any]]) -> str:
    rows = [
        (name, filters, f"{kept} ({percent(kept / filters)})", filters - kept)
        for name, filters, kept in ((layer["name"], layer["filters"], layer["kept"]) for layer in layers)
    ]
    return _table(("layer", "filters", "kept", "removed"), rows, "names")


def _pinned(pinned: Sequence[dict[str, Any]]) -> str:
    rows = [(one["name"], f"{one['pinned']} of {one['filters']}", one["cause"]) for one in pinned]
    return _table(("layer", "filters", "why"), rows, "texts") if rows else ""


def _pairs(values: dict[str, Any], unit: str = "") -> str:
    rows = [(label, value + unit) for label, value in figures(values)]
    return _table((), rows) if rows else ""


def _notes(notes: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<ul>{items}</ul>" if items else ""


def _candidates(report: dict[str, Any]) -> str:
    search = report["search"]
    if not (cloud := search.get("candidates")):
        return ""
    chosen = report["ratios"]["macs"], search["val_accuracy"]
    note = (
        "The chosen one was found after the search: it is one of the trained agent's own proposals for what "
        "is wanted, and they are measured on more images."
    )
    return candidates_figure(cloud, chosen, metric_of(report)) + f"<p>{note}</p>"


def _curve(values: dict[str, Any], key: str, what: str, by: str) -> str:
    return curve_figure(values.get(key) or (), what=what, by=by)


def _code(text: str) -> str:
    return f"<pre><code>{escape(text)}</code></pre>"


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]], kind: str = "") -> str:
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>\n" for row in rows
    )
    attribute = f' class="{kind}"' if kind else ""
    return (
        f'<div class="wide"><table{attribute}>'
        + (f"<thead><tr>{head}</tr></thead>" if headings else "")
        + f"<tbody>\n{body}</tbody></table></div>"
    )
