"""The report as one HTML page that needs nothing else: no network, no script, no other file.

How it looks and what stands where is in ``templates/report.html.jinja``.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ...envs.environment.rendering import figure_of_counts
from .figures import figure_of_candidates, figure_of_curve
from .formatting import change_interval, comparison, details, figures, metric_of, percent, signed
from .svg import inline_svg

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(report: dict[str, Any], folder: Path) -> str:
    """Write the page.

    Args:
        report: As for :func:`secateur.agent.reporting.report.write_report`.
        folder: Where the run lies, for the lines that load the network.
    """
    splits, ratios, metric = report["splits"], report["ratios"], metric_of(report)
    interval = change_interval(report)
    gained = f"points of test {metric}" + (f" (95 %: {interval})" if interval else "")
    return _TEMPLATES.get_template("report.html.jinja").render(
        title=f"{report['model']} on {report['data']}, pruned by {report['method']}",
        metric=metric,
        key_figures=[
            (percent(ratios["macs"]), "of the MACs"),
            (percent(ratios["params"]), "of the parameters"),
            (percent(ratios["latency_ms"]), "of the latency"),
            (signed(-report["accuracy_drop"], 2), gained),
        ],
        comparison=[astuple(row) for row in comparison(report)],
        details=[astuple(row) for row in details(report)],
        layers_figure=_layers_figure(report["layers"]),
        layers=[_layer(layer["name"], layer["filters"], layer["kept"]) for layer in report["layers"]],
        pinned=[
            (one["name"], f"{one['pinned']} of {one['filters']}", one["cause"])
            for one in report.get("pinned", ())
        ],
        search=_in_order(report["search"]),
        candidates_figure=_candidates_figure(report),
        rewards_figure=_curve(report["search"].get("rewards") or (), "mean reward", "update"),
        recovery=_in_order(report["recovery"]),
        losses_figure=_curve(report["recovery"].get("losses") or (), "loss", "epoch"),
        splits=[
            (name, f"{size} images")
            for name, size in figures({key: splits[key] for key in ("train", "val", "test") if key in splits})
        ],
        notes=splits.get("notes", ()),
        loading_code=loading_code(report, folder),
        command=report["command"],
        machine=[
            *figures({"device": report["device"], "seed": report["seed"]}),
            *_in_order(report["versions"]),
        ],
    )


def loading_code(report: dict[str, Any], folder: Path) -> str:
    """Give the lines of Python that load the pruned network."""
    name, outputs, shape = str(report["model"]), report.get("num_outputs"), report.get("input_shape")
    lines = ["from secateur.envs.surgery import load_pruned", ""]
    if outputs and shape and _is_built_by_name(report):
        lines.insert(0, "from secateur.envs.models import get_model")
        dense = f"lambda: get_model({name!r}, num_classes={outputs}, in_channels={shape[0]})"
    else:
        lines.append(
            "# build_dense: your function without arguments that builds the dense network, with any weights"
        )
        dense = "build_dense"
    return "\n".join([*lines, f"model = load_pruned({dense}, {str(folder)!r})"])


def _is_built_by_name(report: dict[str, Any]) -> bool:
    if "built_by_name" in report:
        return bool(report["built_by_name"])
    from .summary import is_built_by_name  # for reports of version 0.1 alone, as it imports torchvision

    return is_built_by_name(str(report["model"]))


def _in_order(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Give the figures by name, as ``report.json`` has them: written again, the page is the same."""
    return figures(dict(sorted(values.items())))


def _layer(name: str, filters: int, kept: int) -> tuple[str, int, str, int]:
    return name, filters, f"{kept} ({percent(kept / filters)})", filters - kept


def _layers_figure(layers: Sequence[dict[str, Any]]) -> Markup:
    names, filters, kept = ([layer[key] for layer in layers] for key in ("name", "filters", "kept"))
    alt = (
        f"Filters of each layer, kept and removed: {sum(kept)} of {sum(filters)} are kept in {len(layers)} "
        "layers. The table of layers has the numbers."
    )
    title = "Filters kept and removed in each layer"
    figure = figure_of_counts([str(name) for name in names], filters, kept, title)
    return Markup(inline_svg(figure, "layers", alt))


def _candidates_figure(report: dict[str, Any]) -> Markup:
    cloud, metric = report["search"].get("candidates") or {}, metric_of(report)
    if not cloud.get("accuracy"):
        return Markup()
    size, accuracy = report["ratios"]["macs"], report["search"]["val_accuracy"]
    alt = (
        f"{len(cloud['accuracy'])} candidates by MACs left and {metric}; "
        f"{sum(map(bool, cloud['meets_target']))} meet the target. The chosen one has {percent(size)} of the "
        f"MACs and {accuracy:.2f} %, the best candidate {max(cloud['accuracy']):.2f} %."
    )
    figure = figure_of_candidates({str(report["model"]): cloud}, metric, (size, accuracy))
    return Markup(inline_svg(figure, "candidates", alt))


def _curve(values: Sequence[float], what: str, by: str) -> Markup:
    """Draw a line; nothing where there are fewer than two points."""
    points = [(step, value) for step, value in enumerate(values, start=1) if math.isfinite(value)]
    if len(points) < 2:
        return Markup()
    (first, begin), (last, end) = points[0], points[-1]
    alt = f"{what} by {by}: {begin:.3g} at {by} {first}, {end:.3g} at {by} {last}."
    return Markup(inline_svg(figure_of_curve(values, what, by), by, alt))
