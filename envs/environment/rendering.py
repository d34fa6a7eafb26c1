"""A picture of a network's layers, kept and removed filters apart; and how all pictures look.

Nothing here imports torch, as reports are drawn without it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from ..surgery.plan import Mask
    from ..tracing import TracedNetwork

# Colours from the palette of Okabe and Ito, which colour-blind people can distinguish.
KEPT, REMOVED, UNDECIDED, CHOSEN = "#0072B2", "#E69F00", "#BBBBBB", "#009E73"

WIDTH = 5.0
"""Inches of a picture: on a phone of 360 pixels a point is 0.9 of them, so that ten points can be read."""

STYLE: dict[Any, Any] = {
    "figure.dpi": 120,
    "figure.constrained_layout.use": True,
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.markeredgewidth": 1.2,
    "legend.handlelength": 1.2,
    "legend.handletextpad": 0.4,
    "legend.columnspacing": 1.2,
    "text.parse_math": False,  # names of layers may have dollars
}
"""Settings of matplotlib for every picture."""

ABOVE: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderpad": 0.2}
"""Where legends stand."""

_ROW, _REST = 0.21, 1.0
"""Inches that a layer takes, and what stands above and below the layers."""

_LONGEST_NAME = 20
"""Characters; of longer names the end is shown, as it tells layers apart."""


def figure_of_layers(network: "TracedNetwork", masks: "Sequence[Mask]", title: str = "") -> Figure:
    """Draw a bar a layer: kept filters, then removed ones; layers not decided about are grey.

    Args:
        network: A trace.
        masks: Keep masks (N,) of the first layers, at most one per layer.
        title: Title of the figure.
    """
    names = [layer.name for layer in network.layers]
    return figure_of_counts(names, network.widths.tolist(), [int(mask.sum()) for mask in masks], title)


@matplotlib.rc_context(STYLE)
def figure_of_counts(
    names: Sequence[str], filters: Sequence[int], kept: Sequence[int], title: str = ""
) -> Figure:
    """Draw :func:`figure_of_layers` from counts, as a report holds them.

    Args:
        names: Names of the layers.
        filters: Number of filters of each dense layer.
        kept: Number of kept filters of each of the first layers.
        title: Title of the figure.
    """
    widths, stay, decided = np.array(filters, np.int64), np.array(kept, np.int64), len(kept)
    rows = np.arange(len(names))
    figure = Figure(figsize=(WIDTH, _ROW * len(names) + _REST))
    axes = figure.subplots()
    axes.barh(rows[:decided], stay, color=KEPT, label="kept")
    gone = axes.barh(rows[:decided], widths[:decided] - stay, left=stay, color=REMOVED, label="removed")
    axes.bar_label(gone, [f"{k} of {f}" for k, f in zip(kept, filters, strict=False)], padding=4)
    if decided < len(names):
        rest = axes.barh(rows[decided:], widths[decided:], color=UNDECIDED, label="not decided yet")
        axes.bar_label(rest, [str(f) for f in filters[decided:]], padding=4)
    axes.set_yticks(rows, [_shortened(name) for name in names])
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)  # the first layer on top
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_xlabel("filters of the layer")
    axes.legend(ncols=3, **ABOVE)
    figure.suptitle(title, x=0.01, horizontalalignment="left")
    return figure


def draw_layers(network: "TracedNetwork", masks: "Sequence[Mask]") -> npt.NDArray[np.uint8]:
    """Render :func:`figure_of_layers` to pixels, (height, width, 3) uint8."""
    counts = network.widths.copy()
    counts[: len(masks)] = [mask.sum() for mask in masks]
    ratio = float(network.macs(counts) / network.macs(network.widths))
    canvas = FigureCanvasAgg(figure_of_layers(network, masks, f"MACs {ratio:.1%} of the dense network"))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _shortened(name: str) -> str:
    name = " ".join(name.split())  # one line, whatever a name of a module may be
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]
