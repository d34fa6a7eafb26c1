"""The figure of a comparison: accuracy over size, latency, file size and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...envs.environment.rendering import STYLE
from .figures import COLOURS, MARKERS

_PANELS = (
    ("macs_ratio", "MACs left, %", 100.0),
    ("latency_ratio", "latency, % of dense", 100.0),
    ("file_ratio", "file size, % of dense", 100.0),
    ("epochs", "passes over the training images", 1.0),
)
"""What is on the axis of each panel: the number, its label, and its factor."""

_DENSE = "#777777"


@matplotlib.rc_context(STYLE)
def figure_of_comparison(rows: Sequence[Mapping[str, Any]], dense: float, title: str, metric: str) -> Figure:
    """Plot accuracy over what it costs, with a line for each system and its deviation over seeds.

    Args:
        rows: The table; see :func:`.comparison_rows.table_rows`.
        dense: Accuracy of the dense network on test, percent.
        title: Title of the figure.
        metric: Name of the accuracy.
    """
    figure = Figure(figsize=(8.4, 6.6))
    panels = figure.subplots(2, 2, sharey=True)
    for axes, (name, label, factor) in zip(panels.flat, _PANELS, strict=True):
        _draw(axes, rows, name, factor)
        axes.axhline(dense, color=_DENSE, linestyle="--", linewidth=1, label="dense")
        axes.set_xlabel(label)
    for axes in panels[:, 0]:
        axes.set_ylabel(f"{metric} on test, %")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    figure.suptitle(title, x=0.01, horizontalalignment="left")
    return figure


def _draw(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str, factor: float) -> None:
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for k, method in enumerate(methods):
        points = [
            (factor * row[name]["mean"], row["accuracy"]["mean"], row["accuracy"]["deviation"] or 0.0)
            for row in rows
            if row["method"] == method
            and row[name]["mean"] is not None
            and row["accuracy"]["mean"] is not None
        ]
        if not points:
            continue
        xs, ys, deviations = zip(*sorted(points), strict=True)
        axes.errorbar(
            xs,
            ys,
            yerr=deviations if any(deviations) else None,
            marker=MARKERS[k % len(MARKERS)],
            color=COLOURS[k % len(COLOURS)],
            linestyle="-" if name != "epochs" else "none",
            capsize=3,
            label=method,
        )
