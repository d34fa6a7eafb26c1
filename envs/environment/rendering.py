"""Bar charts of the kept and removed filters of a network's layers."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..surgery.plan import Mask
from ..tracing import TracedNetwork

# Colours from the palette of Okabe and Ito, which colour-blind people can distinguish.
KEPT, REMOVED, UNDECIDED, CHOSEN = "#0072B2", "#E69F00", "#BBBBBB", "#009E73"


def figure_of_layers(network: TracedNetwork, masks: Sequence[Mask], title: str = "") -> Figure:
    """Draw one bar per layer: kept filters below, removed ones on top; undecided layers are grey.

    Args:
        network: A trace.
        masks: Keep masks (N,) of the first layers, at most one per layer.
        title: Title of the figure.
    """
    names = [layer.name for layer in network.layers]
    return figure_of_counts(names, network.widths.tolist(), [int(mask.sum()) for mask in masks], title)


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
    widths, counts, decided = np.array(filters), np.array(kept, np.int64), len(kept)
    figure = Figure(figsize=(max(6.0, min(16.0, 0.32 * len(names) + 2.0)), 4.2), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(names))
    axes.bar(places[:decided], counts, color=KEPT, label="kept")
    axes.bar(places[:decided], widths[:decided] - counts, bottom=counts, color=REMOVED, label="removed")
    if decided < len(names):
        axes.bar(places[decided:], widths[decided:], color=UNDECIDED, label="not decided yet")
    step = max(1, len(names) // 40)
    axes.set_xticks(places[::step], names[::step], rotation=90, fontsize=7)
    axes.set_ylabel("filters")
    axes.set_xlabel("layer")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def draw_layers(network: TracedNetwork, masks: Sequence[Mask]) -> npt.NDArray[np.uint8]:
    """Render :func:`figure_of_layers` to pixels, (height, width, 3) uint8."""
    counts = network.widths.copy()
    counts[: len(masks)] = [mask.sum() for mask in masks]
    ratio = float(network.macs(counts) / network.macs(network.widths))
    canvas = FigureCanvasAgg(figure_of_layers(network, masks, f"MACs {ratio:.1%} of the dense network"))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
