"""The pictures of a run, for its report and for TensorBoard alike: candidates, keep probabilities, curves.

That of layers is :func:`secateur.envs.environment.rendering.figure_of_counts`, as environments show it too.
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
"""Inches of a picture with two axes."""

_NAMES = 40
"""Rows of a heat map that can be labelled."""

# Okabe and Ito's palette, told apart by colour-blind people too; each line has a marker of its own as well.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
_MARKERS = "osD^vPX*"


@matplotlib.rc_context(STYLE)
def figure_of_candidates(
    clouds: Mapping[str, Columns],
    metric: str,
    chosen: tuple[float, float] | None = None,
) -> Figure:
    """Draw every candidate as a point, those that no other one beats as a line; one plane a network.

    Args:
        clouds: Candidates by network, at least one network.
        metric: What the accuracy is called.
        chosen: MACs ratio and accuracy in percent of the candidate that was taken, once there is one.
    """
    figure = Figure(figsize=(WIDTH * len(clouds), _HEIGHT))
    planes = figure.subplots(1, len(clouds), squeeze=False)[0]
    for axes, (network, own) in zip(planes, clouds.items(), strict=True):
        _draw_plane(axes, own, chosen)
        axes.set_title(f"{network}: {len(own['accuracy'])} candidates", pad=20)
        axes.set_xlabel("MACs left, %")
        axes.set_ylabel(f"{metric} on val\nbefore fine-tuning, %")
        axes.legend(ncols=4, fontsize=9, **ABOVE)
    return figure


def _draw_plane(axes: Axes, cloud: Columns, chosen: tuple[float, float] | None) -> None:
    sizes, accuracies = 100 * np.array(cloud["macs_ratio"]), np.array(cloud["accuracy"])
    met = np.array(cloud["meets_target"], np.bool_)
    for those, label, colour, marker, opacity in (
        (met, "meets the target", KEPT, "o", 0.6),
        (~met, "misses it", REMOVED, "x", 1.0),
    ):
        if those.any():
            xs, ys = sizes[those], accuracies[those]
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
    """Draw how much of each layer is kept as the agent learns: a row a layer, a column an update.

    Args:
        keep_ratios: Of each update, by layer, in [0, 1]; layers of which an update says nothing stay white.
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
    step = -(-len(names) // _NAMES)
    axes.set_yticks(range(0, len(names), step), names[::step], fontsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("update of the policy")
    axes.set_title("mean keep probability of each layer's filters")
    figure.colorbar(image, ax=axes, label="share kept")
    return figure


@matplotlib.rc_context(STYLE)
def figure_of_curve(values: Sequence[float], what: str, by: str) -> Figure:
    """Draw a line through one value a step.

    Args:
        values: One a step, the first that of step 1; where one is NaN the line goes on behind it.
        what: The values' name, with its unit if it has one.
        by: What a step is, such as ``epoch``.
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
    """Draw accuracy over size, a line a decider, from small networks to large ones.

    Args:
        curves: By decider, MACs ratio and accuracy on test in percent of its networks.
        dense: The dense network's accuracy on test, percent; drawn as a line across.
        title: Printed above.
        metric: What the accuracy is called.
    """
    figure = Figure(figsize=(7.0, 4.4))
    axes = figure.subplots()
    for k, (decider, points) in enumerate(curves.items()):
        sizes, accuracies = np.transpose(sorted(points))
        marker, colour = _MARKERS[k % len(_MARKERS)], _COLOURS[k % len(_COLOURS)]
        axes.plot(100 * sizes, accuracies, marker=marker, color=colour, label=decider)
    axes.axhline(dense, color="#777777", linestyle="--", linewidth=1, label="dense")
    axes.set_xlabel("MACs left, % of the dense network")
    axes.set_ylabel(f"{metric} on test before fine-tuning, %")
    axes.legend()
    axes.set_title(title)
    return figure
