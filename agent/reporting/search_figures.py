"""Pictures of a search, for TensorBoard: candidates by size and accuracy, and what layers keep."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...envs.environment.rendering import CHOSEN, KEPT, REMOVED
from ..run.search_history import Columns, pareto

_NAMES = 40
"""Rows of a heat map that can be labelled."""


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
    figure = Figure(figsize=(5.2 * len(clouds), 3.8), layout="constrained")
    planes = figure.subplots(1, len(clouds), squeeze=False)[0]
    for axes, (network, own) in zip(planes, clouds.items(), strict=True):
        _draw_plane(axes, own, chosen)
        axes.set_title(f"{network}: {len(own['accuracy'])} candidates", fontsize=10, pad=20)
        axes.set_xlabel("MACs left, %")
        axes.set_ylabel(f"{metric} on val before fine-tuning, %")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(
            frameon=False, fontsize=8, ncols=4, columnspacing=1.2, loc="lower left", bbox_to_anchor=(-0.05, 1)
        )
    return figure


def _draw_plane(axes: Axes, cloud: Columns, chosen: tuple[float, float] | None) -> None:
    sizes, accuracies = np.array(cloud["macs_ratio"]), np.array(cloud["accuracy"])
    met = np.array(cloud["meets_target"], np.bool_)
    for those, label, colour, marker in (
        (met, "meets the target", KEPT, "o"),
        (~met, "misses it", REMOVED, "x"),
    ):
        if those.any():
            axes.scatter(
                100 * sizes[those], accuracies[those], s=14, c=colour, marker=marker, alpha=0.6, label=label
            )
    front = pareto(sizes.tolist(), accuracies.tolist())
    axes.plot(
        100 * sizes[front],
        accuracies[front],
        color="black",
        linewidth=1,
        drawstyle="steps-post",
        label="Pareto frontier",
    )
    if chosen is not None:
        axes.scatter(
            [100 * chosen[0]],
            [chosen[1]],
            s=160,
            c=CHOSEN,
            marker="*",
            edgecolors="black",
            label="chosen",
            zorder=3,
        )


def figure_of_keep_ratios(keep_ratios: Sequence[Mapping[str, float]]) -> Figure:
    """Draw how much of each layer is kept as the agent learns: a row a layer, a column an update.

    Args:
        keep_ratios: Of each update, by layer, in [0, 1]; layers of which an update says nothing stay white.
    """
    names = list(dict.fromkeys(name for update in keep_ratios for name in update))
    ratios = np.array([[update.get(name, np.nan) for update in keep_ratios] for name in names])
    figure = Figure(figsize=(6.4, min(12.0, 0.18 * len(names) + 1.8)), layout="constrained")
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
    axes.set_title("mean keep probability of each layer's filters", fontsize=10)
    figure.colorbar(image, ax=axes, label="kept, share of the layer's filters")
    return figure
