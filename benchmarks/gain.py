"""Draw the figure of the README from the numbers of ``cifar10.json`` and ``frontier-resnet20.json``.

    python benchmarks/gain.py

Left: what remains of three networks after pruning and thirty epochs of fine-tuning, mean of three seeds.
Right: the accuracy of ResNet-20 over its size, without a step of training.
"""

import json
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

HERE = Path(__file__).parent
NETWORKS = {
    "resnet20": ("ResNet-20", "--target-macs 0.455"),
    "resnet56": ("ResNet-56", "--target-macs 0.47"),
    "vgg16": ("VGG-16", "--target-macs 0.35"),
}
BARS = (("macs_ratio", "MACs left", "#0072B2"), ("params_ratio", "parameters left", "#56B4E9"))
LINES = {
    "ppo": ("agent", "#0072B2"),
    "fpgm-global": ("fpgm-global", "#009E73"),
    "taylor-global-per-mac": ("taylor-global-per-mac", "#E69F00"),
    "l2-uniform": ("l2-uniform", "#D55E00"),
}


def main() -> None:
    """Write ``gain.png`` beside this file."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.4), width_ratios=(1, 1.15))
    draw_sizes(left, json.loads((HERE / "cifar10.json").read_text(encoding="utf-8")))
    draw_frontier(right, json.loads((HERE / "frontier-resnet20.json").read_text(encoding="utf-8")))
    figure.tight_layout(w_pad=3)
    figure.savefig(HERE / "gain.png", dpi=130, bbox_inches="tight")


def draw_sizes(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Draw the shares of MACs and parameters that are left, with the accuracies beside them."""
    labels = []
    for k, (model, (name, wish)) in enumerate(NETWORKS.items()):
        chosen = [
            r for r in rows if (r["model"], r["wish"], r["method"], r["epochs"]) == (model, wish, "ppo", 30)
        ]
        for offset, (key, _, colour) in zip((-0.18, 0.18), BARS, strict=True):
            share = 100 * mean(row[key] for row in chosen)
            axes.barh(k + offset, 100, 0.32, color="#ececec")
            axes.barh(k + offset, share, 0.32, color=colour)
            axes.text(share + 1.5, k + offset, f"{share:.1f} %", va="center", fontsize=8)
        dense, after = (mean(row[key] for row in chosen) for key in ("dense_accuracy", "accuracy"))
        labels.append(f"{name}\n{dense:.1f} % → {after:.1f} %")
    for _, label, colour in BARS:
        axes.barh(0, 0, color=colour, label=label)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the dense network")
    axes.set_title("Size and accuracy after fine-tuning, CIFAR-10", fontsize=9.5)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, -0.42), ncols=2, frameon=False)


def draw_frontier(axes: Axes, frontier: dict[str, Any]) -> None:
    """Draw accuracy over size for the agent and three heuristics."""
    for method, (label, colour) in LINES.items():
        points = [point for point in frontier["points"] if point["method"] == method]
        xs = [100 * point["macs_ratio"] for point in points]
        ys = [point["accuracy"] for point in points]
        width = 2.4 if method == "ppo" else 1.3
        axes.plot(xs, ys, marker="o", markersize=3.5, color=colour, label=label, linewidth=width)
    axes.axhline(frontier["dense"], color="#777777", linestyle="--", linewidth=1, label="dense")
    axes.set_xlabel("MACs left, %")
    axes.set_ylabel("test accuracy, %")
    axes.set_title("ResNet-20 without a step of training", fontsize=9.5)
    axes.legend(loc="lower right", frameon=False)


if __name__ == "__main__":
    main()
