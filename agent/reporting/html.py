"""The report as a self-contained HTML page, without scripts or other files.

Layout and style are in ``templates/report.html.jinja``.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ...envs.environment.rendering import figure_of_counts
from ...envs.io.wording import counted
from .figures import figure_of_candidates, figure_of_curve
from .formatting import (
    UNDEFINED,
    change_interval,
    comparison,
    details,
    details_heading,
    figures,
    finalists_table,
    lead_of,
    metric_of,
    percent,
    remarks_below,
    signed,
)
from .loading_code import export_code, loading_code, running_code
from .svg import inline_svg

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(report: dict[str, Any], folder: Path) -> str:
    """Return the HTML of the report.

    Args:
        report: As for :func:`secateur.agent.reporting.report.write_report`.
        folder: Folder of the run, for the code that loads the network.
    """
    splits, ratios, metric = report["splits"], report["ratios"], metric_of(report)
    interval = change_interval(report)
    accuracy_label = f"points of test {metric}" + (f" (95 %: {interval})" if interval else "")
    return TEMPLATES.get_template("report.html.jinja").render(
        title=f"{report['model']} on {report['data']}, pruned by {report['method']}",
        key_figures=[
            (signed(-report["accuracy_drop"], 2), accuracy_label),
            _speed_figure(ratios),
            (percent(ratios["macs"]), "of the MACs"),
            (percent(ratios["params"]), "of the parameters"),
        ],
        comparison=[astuple(row) for row in comparison(report)],
        remarks=remarks_below(report),
        metric=metric,
        details_heading=f"T{details_heading(report)[1:]}",
        details=[astuple(row) for row in details(report)],
        layers_figure=_layers_figure(report["layers"]),
        layers=[_layer(layer["name"], layer["filters"], layer["kept"]) for layer in report["layers"]],
        blocks=", ".join(report.get("blocks", {}).get("dropped", ())),
        tried_blocks=[
            (str(row["blocks"]), row["decider"], f"{row['accuracy']:.2f} %")
            for row in report.get("blocks", {}).get("tried", ())
        ],
        attributes=", ".join(f"{name} = {value}" for name, value in report.get("attributes", {}).items()),
        pinned=[
            (layer["name"], f"{layer['pinned']} of {layer['filters']}", layer["cause"])
            for layer in report.get("pinned", ())
        ],
        search=_sorted_figures(report["search"]),
        finalists=_finalists(report),
        candidates_figure=_candidates_figure(report),
        rewards_figure=_curve(report["search"].get("rewards") or (), "mean reward", "update"),
        system=_system_figures(report),
        system_layers=_system_layers(report),
        recovery=_sorted_figures(report["recovery"]),
        losses_figure=_curve(report["recovery"].get("losses") or (), "loss", "epoch"),
        splits=[
            (name, f"{size} images")
            for name, size in figures({key: splits[key] for key in ("train", "val", "test") if key in splits})
        ]
        + _data_figures(report),
        notes=splits.get("notes", ()),
        loading_code=loading_code(report, folder),
        export_code=export_code(report, folder),
        running_code=running_code(report, folder),
        command=report["command"],
        machine=[
            *figures({"device": report["device"], "seed": report["seed"]}),
            *_sorted_figures(report["versions"]),
        ],
    )


def _speed_figure(ratios: dict[str, float]) -> tuple[str, str]:
    """Return the gain in speed that a user notices first; version 0.1 measured no throughput."""
    if math.isnan(ratios["latency_ms"]):
        return UNDEFINED, "of the latency"
    if "images_per_second" in ratios:
        return f"{ratios['images_per_second']:.2f} times", "the images per second"
    return percent(ratios["latency_ms"]), "of the latency"


def _data_figures(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return how inputs are prepared, and the number of classes."""
    found = []
    if classes := report.get("classes"):
        found.append(("classes", str(len(classes))))
    if normalisation := report.get("normalisation"):
        mean, std = (", ".join(f"{value:.4g}" for value in normalisation[key]) for key in ("mean", "std"))
        found.append(("normalisation of pixels in [0, 1]", f"mean {mean}; std {std}"))
    if augmentation := report.get("augmentation"):
        found.append(("augmentation of train", str(augmentation)))
    return found


def _system_figures(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the numbers of a system of a comparison; those of several rounds are in one row."""
    details = _system_details(report)
    rounds = {name: value for name, value in details.items() if isinstance(value, list)}
    rows = [(name.replace("_", " "), ", ".join(f"{x:.4g}" for x in value)) for name, value in rounds.items()]
    return [*_sorted_figures({name: details[name] for name in details.keys() - rounds.keys()}), *sorted(rows)]


def _system_layers(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a system left of each layer: the share of its weights, or its rank."""
    details = _system_details(report)
    shares = [(name, percent(share)) for name, share in details.get("share_by_layer", {}).items()]
    return shares or [(name, str(rank)) for name, rank in details.get("ranks", {}).items()]


def _system_details(report: dict[str, Any]) -> dict[str, Any]:
    details: dict[str, Any] = report.get("system", {}).get("details", {})
    return details


def _sorted_figures(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the values sorted by name, as in ``report.json``, so that a rewritten page is the same."""
    return figures(dict(sorted(values.items())))


def _layer(name: str, filters: int, kept: int) -> tuple[str, int, str, int]:
    return name, filters, f"{kept} ({percent(kept / filters)})", filters - kept


def _layers_figure(layers: Sequence[dict[str, Any]]) -> Markup:
    names, filters, kept = ([layer[key] for layer in layers] for key in ("name", "filters", "kept"))
    alt = (
        f"Filters of each layer, kept and removed: {sum(kept)} of {sum(filters)} are kept in {len(layers)} "
        "layers. The numbers are in the table of layers."
    )
    title = "Filters kept and removed in each layer"
    figure = figure_of_counts([str(name) for name in names], filters, kept, title)
    return Markup(inline_svg(figure, "layers", alt))


def _finalists(report: dict[str, Any]) -> tuple[list[str], list[list[str]], str]:
    """Return headings, rows and the conclusion of the comparison of finalists; empty if there was none."""
    found = report["search"].get("finalists")
    if not found:
        return [], [], ""
    epochs, seconds = found["epochs"], found["seconds"]
    how = f"{counted(float(f'{epochs:.3g}'), 'epoch')} in {seconds:,.0f} s" if epochs else "no training"
    said = f"{lead_of(found)}. Accuracies on {counted(found['images'], 'image')} of val; {how}."
    return *finalists_table(found), said


def _candidates_figure(report: dict[str, Any]) -> Markup:
    columns, metric = report["search"].get("candidates") or {}, metric_of(report)
    if not columns.get("accuracy"):
        return Markup()
    size, accuracy = report["ratios"]["macs"], report["search"]["val_accuracy"]
    alt = (
        f"{len(columns['accuracy'])} candidates by MACs left and {metric}; "
        f"{sum(map(bool, columns['meets_target']))} meet the target. The chosen one has {percent(size)} of "
        f"the MACs and {accuracy:.2f} %, the best candidate {max(columns['accuracy']):.2f} %."
    )
    figure = figure_of_candidates({str(report["model"]): columns}, metric, (size, accuracy))
    return Markup(inline_svg(figure, "candidates", alt))


def _curve(values: Sequence[float], what: str, by: str) -> Markup:
    """Draw a curve; empty if there are fewer than two points."""
    points = [(step, value) for step, value in enumerate(values, start=1) if math.isfinite(value)]
    if len(points) < 2:
        return Markup()
    (first, start), (last, end) = points[0], points[-1]
    alt = f"{what} by {by}: {start:.3g} at {by} {first}, {end:.3g} at {by} {last}."
    return Markup(inline_svg(figure_of_curve(values, what, by), by, alt))
