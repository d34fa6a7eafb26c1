"""The results of a finished run in TensorBoard: scalars, figures and hyperparameters."""

from typing import Any

from stable_baselines3.common.logger import Figure, HParam

from ...envs.environment.rendering import figure_of_layers
from ...envs.problem.problem import PruningProblem
from ...envs.surgery.plan import PruningPlan
from ...rewards import Reward
from ..reporting.figures import figure_of_candidates
from ..reporting.formatting import metric_of
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
    """Write the scalars and figures ``result/*``, and the hyperparameters with the final metrics.

    Args:
        folder: Folder of the run.
        problem: The dense network and its data.
        plan: The plan of the cut.
        reward: The reward of the run.
        config: The options of the run.
        report: Content of ``report.json``.
    """
    title = f"{problem.name}: MACs {report['ratios']['macs']:.1%} of the dense network"
    figures = {"layers": figure_of_layers(problem.network, plan.masks(problem.network), title)}
    if candidates := report["search"].get("candidates"):
        chosen = report["ratios"]["macs"], report["search"]["val_accuracy"]
        figures["candidates"] = figure_of_candidates({problem.name: candidates}, metric_of(report), chosen)
    for name, figure in figures.items():
        folder.logger.record(f"result/{name}", Figure(figure, close=True), exclude=NOT_TEXT)
    metrics = {
        "result/accuracy": report["pruned"]["accuracy"],
        "result/accuracy_drop": report["accuracy_drop"],
        "result/macs_ratio": report["ratios"]["macs"],
        "result/params_ratio": report["ratios"]["params"],
        "result/latency_ratio": report["ratios"]["latency_ms"],
    }
    # TensorBoard shows each metric as a column, so the keep ratios of layers are not among them.
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
    recipe = config.recovery.recipe
    is_target = reward.size == "macs" and config.drop_bound is None
    return {
        "model": problem.name,
        "data": report["data"],
        "method": report["method"],
        "target_macs": (reward.target or 0.0) if is_target else 0.0,
        "target_latency": config.target_latency or 0.0,
        "procedure": config.procedure,
        "drop_bound": config.drop_bound or 0.0,
        "evaluations": float(report["search"]["evaluations"]),
        "effort": config.effort,
        "epochs": float(recipe.epochs),
        "optimiser": config.optimiser,
        "schedule": recipe.schedule,
        "learning_rate": recipe.learning_rate,
        "ema_decay": config.ema_decay,
        "batch_size": float(config.batch_size),
        "weight_decay": config.weight_decay,
        "distillation": config.distillation or "",
        "distillation_weight": config.distillation_weight,
        "seed": float(config.seed),
    }
