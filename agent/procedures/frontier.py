"""The trade-off between accuracy and size of an agent and of baselines, without fine-tuning."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from ...envs.problem.problem import PruningProblem
from ...envs.recovery.batchnorm import reestimate_batchnorm
from ...envs.surgery.cutting import PruningPlan
from ...envs.tasks import measure
from ...rewards import TargetReward
from ..deciders.base import Decider
from ..deciders.selection import choose

# Palette of Okabe and Ito, which colour-blind people can distinguish; each line also has its own marker.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
_MARKERS = "osD^vPX*"


@dataclass(frozen=True)
class Point:
    """One network on the curve of a decider.

    Args:
        method: Name of the decider.
        target: Target share of the MACs, in (0, 1].
        macs_ratio: Share of the MACs, pruned / dense, in [0, 1].
        params_ratio: Share of the parameters, pruned / dense, in [0, 1].
        val_accuracy: Accuracy on val, by which it was chosen, percent.
        accuracy: Accuracy on test after re-estimating batch-norm statistics only, percent.
        evaluations: Number of candidates measured for it.
    """

    method: str
    target: float
    macs_ratio: float
    params_ratio: float
    val_accuracy: float
    accuracy: float
    evaluations: int


def frontier(
    problem: PruningProblem,
    deciders: Sequence[Decider],
    targets: Sequence[float],
    *,
    seed: int = 0,
) -> Iterator[Point]:
    """Let each decider prune to each target, and measure on test without fine-tuning.

    Args:
        problem: The problem with the network and the evaluator.
        deciders: The deciders to compare.
        targets: Target shares of the MACs, in (0, 1].
        seed: Seed for the choice of images for batch-norm statistics.

    Raises:
        ValueError: If pinned filters make a target unreachable.
        InexactCutError: If a cut would not compute the same as the masked network.
    """
    for decider in deciders:
        for target in targets:
            choice = choose(problem, decider, TargetReward(target))
            plan = PruningPlan.from_masks(problem.network, choice.masks)
            smaller = problem.cut(plan)
            reestimate_batchnorm(smaller, problem.task, seed=seed)
            yield Point(
                method=decider.name,
                target=target,
                macs_ratio=choice.outcome.macs_ratio,
                params_ratio=choice.outcome.params_ratio,
                val_accuracy=choice.outcome.accuracy,
                accuracy=measure(smaller, problem.task, "test").accuracy,
                evaluations=choice.evaluations,
            )


def draw_frontier(points: Sequence[Point], dense: float, title: str, metric: str) -> Figure:
    """Draw one line per decider, from small networks to large ones.

    Args:
        points: Points of all deciders.
        dense: The dense network's accuracy on test, percent; drawn as a horizontal line.
        title: Title of the figure.
        metric: Name of the metric.
    """
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.subplots()
    for k, method in enumerate(dict.fromkeys(point.method for point in points)):
        line = sorted((p for p in points if p.method == method), key=lambda p: p.target)
        axes.plot(
            [100 * p.macs_ratio for p in line],
            [p.accuracy for p in line],
            marker=_MARKERS[k % len(_MARKERS)],
            color=_COLOURS[k % len(_COLOURS)],
            label=method,
        )
    axes.axhline(dense, color="#777777", linestyle="--", linewidth=1, label="dense")
    axes.set_xlabel("MACs left, % of the dense network")
    axes.set_ylabel(f"{metric} on test before fine-tuning, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    axes.set_title(title, fontsize=10)
    return figure
