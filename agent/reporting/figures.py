"""Figures of a run for its report and for TensorBoard: candidates, keep ratios, curves.

The figure of the layers is :func:`secateur.envs.environment.rendering.figure_of_counts`, which environments
use, too.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...envs.environment.rendering import ABOVE, CHOSEN, KEPT, REMOVED, STYLE, WIDTH
from ..run.search_history import Columns, pareto

_HEIGHT = 3.1
"""Height of a figure, inches."""

_MAX_LABELS = 40
"""Largest number of labelled rows in a heat map."""

# Okabe and Ito's palette, which is safe for colour-blind readers; each line also has its own marker.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
MARKERS = "osD^vPX*"
"""Markers and colours of lines."""


@matplotlib.rc_context(STYLE)
def figure_of_candidates(
    columns_by_network: Mapping[str, Columns],
    metric: str,
    chosen: tuple[float, float] | None = None,
) -> Figure:
    """Plot the candidates as points and their Pareto front as a line, in one panel per network.

    Args:
        columns_by_network: Candidates of each network; at least one network.
        metric: Name of the accuracy.
        chosen: MACs ratio and accuracy, percent, of the chosen candidate; None if none is chosen yet.
    """
    figure = Figure(figsize=(WIDTH * len(columns_by_network), _HEIGHT))
    panels = figure.subplots(1, len(columns_by_network), squeeze=False)[0]
    for axes, (network, columns) in zip(panels, columns_by_network.items(), strict=True):
        _draw_candidates(axes, columns, chosen)
        axes.set_title(f"{network}: {len(columns['accuracy'])} candidates", pad=20)
        axes.set_xlabel("MACs left, %")
        axes.set_ylabel(f"{metric} on val\nbefore fine-tuning, %")
        axes.legend(ncols=4, fontsize=9, **ABOVE)
    return figure


def _draw_candidates(axes: Axes, columns: Columns, chosen: tuple[float, float] | None) -> None:
    sizes, accuracies = 100 * np.array(columns["macs_ratio"]), np.array(columns["accuracy"])
    meets = np.array(columns["meets_target"], np.bool_)
    for selected, label, colour, marker, opacity in (
        (meets, "meets the target", KEPT, "o", 0.6),
        (~meets, "misses it", REMOVED, "x", 1.0),
    ):
        if selected.any():
            xs, ys = sizes[selected], accuracies[selected]
            axes.plot(xs, ys, marker, color=colour, markersize=4.5, alpha=opacity, label=label)
    front = pareto(sizes.tolist(), accuracies.tolist())
    axes.step(sizes[front], accuracies[front], "black", where="post", linewidth=1.2, label="frontier")
    if chosen is not None:
        axes.plot(
            100 * chosen[0],
            chosen[1],
            "*",
            markersize=13,
            color=CHOSEN,
            markeredgecolor="black",
            label="chosen",
        )


@matplotlib.rc_context(STYLE)
def figure_of_keep_ratios(keep_ratios: Sequence[Mapping[str, float]]) -> Figure:
    """Draw the keep ratio of each layer during the training as a heat map, with one column per update.

    Args:
        keep_ratios: Keep ratio of each layer in each update, in [0, 1]; cells without one stay white.
    """
    names = list(dict.fromkeys(name for update in keep_ratios for name in update))
    ratios = np.array([[update.get(name, np.nan) for update in keep_ratios] for name in names])
    figure = Figure(figsize=(6.4, min(12.0, 0.18 * len(names) + 1.8)))
    axes = figure.subplots()
    image = axes.imshow(
        ratios,
        aspect="auto",
        interpolation="nearest",
        cmap="cividis",
        vmin=0,
        vmax=1,
        extent=(0.5, len(keep_ratios) + 0.5, len(names) - 0.5, -0.5),
    )
    step = -(-len(names) // _MAX_LABELS)
    axes.set_yticks(range(0, len(names), step), names[::step], fontsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("update of the policy")
    axes.set_title("mean keep probability of each layer's filters")
    figure.colorbar(image, ax=axes, label="share kept")
    return figure


@matplotlib.rc_context(STYLE)
def figure_of_curve(values: Sequence[float], what: str, by: str) -> Figure:
    """Plot one value per step as a line.

    Args:
        values: Values from step 1 on; NaN is skipped.
        what: Name of the values, with their unit if they have one.
        by: Name of a step, such as ``epoch``.
    """
    steps, heights = np.arange(1, len(values) + 1), np.array(values, np.float64)
    known = np.isfinite(heights)
    figure = Figure(figsize=(WIDTH, _HEIGHT - 0.6))
    axes = figure.subplots()
    axes.plot(steps[known], heights[known], color=KEPT, linewidth=2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(by)
    figure.suptitle(f"{what} by {by}", x=0.01, horizontalalignment="left")
    return figure


@matplotlib.rc_context(STYLE)
def figure_of_frontier(
    curves: Mapping[str, Sequence[tuple[float, float]]], dense: float, title: str, metric: str
) -> Figure:
    """Plot accuracy against size as one line per decider.

    Args:
        curves: MACs ratio and accuracy on test, percent, of each decider's networks.
        dense: Accuracy of the dense network on test, percent; drawn as a horizontal line.
        title: Title of the figure.
        metric: Name of the accuracy.
    """
    figure = Figure(figsize=(7.0, 4.4))
    axes = figure.subplots()
    for k, (decider, points) in enumerate(curves.items()):
        sizes, accuracies = np.transpose(sorted(points))
        marker, colour = MARKERS[k % len(MARKERS)], COLOURS[k % len(COLOURS)]
        axes.plot(100 * sizes, accuracies, marker=marker, color=colour, label=decider)
    axes.axhline(dense, color="#777777", linestyle="--", linewidth=1, label="dense")
    axes.set_xlabel("MACs left, % of the dense network")
    axes.set_ylabel(f"{metric} on test before fine-tuning, %")
    axes.legend()
    axes.set_title(title)
    return figure
