"""Log a finished run to TensorBoard: scalars, figures, and hyperparameters."""

from typing import Any

from stable_baselines3.common.logger import Figure, HParam

from ...envs.environment.rendering import figure_of_layers
from ...envs.problem.problem import PruningProblem
from ...envs.surgery.plan import PruningPlan
from ...rewards import Reward
from ..reporting.formatting import metric_of
from ..reporting.search_figures import figure_of_candidates
from ..run.folder import NOT_TEXT, RunFolder
from .config import PruningConfig


def log_result(
    folder: RunFolder,
    problem: PruningProblem,
    plan: PruningPlan,
    reward: Reward,
    config: PruningConfig,
    report: dict[str, Any],
) -> None:
    """Log the scalars and figures ``result/*``, and hyperparameters with the final metrics.

    Args:
        folder: The run folder.
        problem: The problem with the dense network and its data.
        plan: The kept filters.
        reward: The reward of the run.
        config: The configuration of the run.
        report: The content of ``report.json``.
    """
    title = f"{problem.name}: MACs {report['ratios']['macs']:.1%} of the dense network"
    pictures = {"layers": figure_of_layers(problem.network, plan.masks(problem.network), title)}
    if cloud := report["search"].get("candidates"):
        chosen = report["ratios"]["macs"], report["search"]["val_accuracy"]
        pictures["candidates"] = figure_of_candidates({problem.name: cloud}, metric_of(report), chosen)
    for name, figure in pictures.items():
        folder.logger.record(f"result/{name}", Figure(figure, close=True), exclude=NOT_TEXT)
    metrics = {
        "result/accuracy": report["pruned"]["accuracy"],
        "result/accuracy_drop": report["accuracy_drop"],
        "result/macs_ratio": report["ratios"]["macs"],
        "result/params_ratio": report["ratios"]["params"],
        "result/latency_ratio": report["ratios"]["latency_ms"],
    }
    # Not in the table of runs, which has one column per metric: the keep ratios of layers.
    folder.logger.record(
        "hparams", HParam(_hyperparameters(problem, reward, config, report), metrics), exclude=NOT_TEXT
    )
    kept = {
        f"result/keep_ratio/{layer['name']}": layer["kept"] / layer["filters"] for layer in report["layers"]
    }
    folder.log(metrics | kept, 0)


def _hyperparameters(
    problem: PruningProblem, reward: Reward, config: PruningConfig, report: dict[str, Any]
) -> dict[str, bool | str | float | None]:
    return {
        "model": problem.name,
        "data": report["data"],
        "method": report["method"],
        "target_macs": (reward.target or 0.0) if reward.size == "macs" else 0.0,
        "target_latency": config.target_latency or 0.0,
        "procedure": config.procedure,
        "drop_bound": config.drop_bound or 0.0,
        "evaluations": float(report["search"]["evaluations"]),
        "epochs": float(config.recovery.epochs),
        "seed": float(config.seed),
    }
