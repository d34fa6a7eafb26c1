"""The whole job: trace, decide, cut, recover, measure, save, report."""

import copy
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure, Logger
from torch import nn

from ..envs.evaluation import CandidateEvaluator
from ..envs.limits import trace_limited
from ..envs.plan import PruningPlan
from ..envs.problem import PruningProblem
from ..envs.recovery import finetune, reestimate_batchnorm
from ..envs.rendering import figure_of_layers
from ..envs.surgery import cut, save_pruned
from ..envs.tasks import Task, measure
from ..envs.tasks.optional import metric_name
from ..envs.tasks.own import check_answers, check_task
from ..envs.tracing import TracedNetwork
from ..envs.verification import verify_cut
from .baselines import Baseline
from .callbacks import Checkpoints, ProgressBar, SearchMonitor
from .config import PruningConfig
from .deciders import Budget, Decider
from .learned import LearnedDecider
from .progress import RecoveryMonitor, say
from .report import write_report
from .rounding import unrounded
from .run_folder import NOT_TEXT, RunFolder
from .selection import Choice, choose
from .summary import summarise
from .training import train_agent


@dataclass(frozen=True)
class PruningResult:
    """What pruning gave.

    Args:
        model: The cut and recovered network, in evaluation mode.
        plan: What it kept.
        report: As in ``report.json``.
    """

    model: nn.Module
    plan: PruningPlan
    report: dict[str, Any]


def check(model: nn.Module, task: Task, config: PruningConfig) -> TracedNetwork:
    """Trace a network and find out, before anything is trained or written, whether what is wanted can be had.

    Raises:
        ValueError: If the network does not run on the task's images, the task's loss or metric does not take
            its answers, pinned filters or limits make the target unreachable, a limit names no layer, or the
            agent cannot be loaded.
        TypeError: If the network answers with something that is not known, or the task with the wrong type.
    """
    check_task(task)
    network = trace_limited(model, torch.zeros(2, *task.input_shape), config.limits)
    check_answers(model, task)
    reward = config.reward()
    if reward.target is not None and network.layers:
        Budget(network, reward.target, reward.size)
    if config.agent is not None:
        LearnedDecider.load(config.agent)
    return network


def prune(
    model: nn.Module,
    task: Task,
    config: PruningConfig | None = None,
    *,
    network: TracedNetwork | None = None,
    folder: RunFolder | None = None,
    name: str = "model",
    notes: Sequence[str] = (),
) -> PruningResult:
    """Prune a trained network.

    Args:
        model: The dense network; it is left as it is, in evaluation mode.
        task: Data and metric, on the network's device.
        config: What is wanted; by default half of the MACs, decided by PPO.
        network: Its trace, if :func:`check` was called before.
        folder: Where the run is kept; None keeps nothing on disk.
        name: Of the network, for logs and the report.
        notes: Sentences for the report.

    Raises:
        ValueError: If nothing can be pruned, or not what is wanted.
        InexactCutError: If the cut network would not compute what the masked one does.
    """
    config = config or PruningConfig()
    network = network or check(model, task, config)
    problem = PruningProblem.build(
        name, model.eval(), task, network=network, images=config.search_images, seed=config.seed
    )
    decider, choice, search = _search(problem, config, folder)
    plan = PruningPlan.from_masks(network, choice.masks)
    verify_cut(model, network, plan, torch.zeros(2, *task.input_shape))
    smaller = cut(model, network, plan)
    recovery = _recover(smaller, model, task, config, folder.logger if folder else None)
    report = summarise(
        problem,
        smaller,
        plan,
        list(notes),
        method=decider.name if config.agent is None else f"{decider.name} (frozen)",
        search=search,
        recovery=recovery,
        seed=config.seed,
        command=folder.command if folder else "",
    )
    if config.limits.rounding:  # timed right after the pruned network, as they are compared
        report["unrounded"] = unrounded(problem, decider, choice, config)
    if folder is not None:
        _save(folder, problem, smaller, plan, config, report)
    return PruningResult(smaller, plan, report)


def _search(
    problem: PruningProblem, config: PruningConfig, folder: RunFolder | None
) -> tuple[Decider, Choice, dict[str, Any]]:
    """Find who decides, training it if need be, and let it; say what that took."""
    started = time.perf_counter()
    decider: Decider
    rewards: list[float] = []
    tried = 0
    if config.agent is not None:
        decider = LearnedDecider.load(config.agent, seed=config.seed)
    elif config.method != "ppo":
        decider = Baseline.from_name(config.method, config.seed)
    else:
        training = train_agent(
            [problem],
            config.reward(),
            config.search,
            seed=config.seed,
            logger=folder.logger if folder else None,
            callbacks=search_callbacks(config.search.evaluations, config.search.episodes_per_update, folder),
        )
        decider, tried, rewards = training.decider, training.evaluations, training.rewards
    if folder is not None and isinstance(decider, LearnedDecider):
        decider.save(folder.path)  # before anything else can fail
    choice = _choose(problem, decider, config)
    found = choice.outcome
    say(
        f"chosen: MACs {found.macs_ratio:.1%}, {metric_name(problem.task)} {found.accuracy:.2f} % on val "
        "before fine-tuning"
    )
    return (
        decider,
        choice,
        {
            "evaluations": tried + choice.evaluations,
            "seconds": round(time.perf_counter() - started, 1),
            "val_accuracy": found.accuracy,
            "val_accuracy_drop": found.accuracy_drop,
            "rewards": [round(reward, 4) for reward in rewards],
        },
    )


def search_callbacks(
    evaluations: int, episodes_per_update: int, folder: RunFolder | None
) -> list[BaseCallback]:
    """Watch a search: always a progress bar, and TensorBoard and checkpoints where there is a folder."""
    watchers: list[BaseCallback] = [ProgressBar(evaluations)]
    if folder is not None:
        watchers += [
            SearchMonitor(evaluations // episodes_per_update),
            Checkpoints(folder.path / "checkpoints"),
        ]
    return watchers


def _choose(problem: PruningProblem, decider: Decider, config: PruningConfig) -> Choice:
    """Choose among the decider's proposals, on more and partly other images than the search looked at."""
    evaluator = CandidateEvaluator(
        problem.model,
        problem.network,
        problem.task,
        images=4 * config.search_images,
        statistics_images=512,
        seed=config.seed + 1,
    )
    return choose(dataclasses.replace(problem, evaluator=evaluator), decider, config.reward())


def _recover(
    smaller: nn.Module, dense: nn.Module, task: Task, config: PruningConfig, logger: Logger | None
) -> dict[str, Any]:
    """Re-estimate batch-norm, fine-tune, learning from the dense network too, and re-estimate again."""
    recovery = config.recovery

    def reestimate() -> float:
        reestimate_batchnorm(smaller, task, images=recovery.batchnorm_images, seed=config.seed)
        return measure(smaller, task, "val", limit=4 * config.search_images).accuracy

    before = after = reestimate()
    if logger is not None:
        logger.record("recovery/val_accuracy", before)
        logger.dump(0)
    seconds, losses = 0.0, []
    if recovery.epochs:
        with RecoveryMonitor(smaller, task, logger, prefix="recovery") as monitor:
            summary = finetune(
                smaller,
                task,
                recovery,
                teacher=copy.deepcopy(dense) if recovery.distillation_weight else None,
                seed=config.seed,
                on_step=monitor.on_step,
                on_epoch=monitor.on_epoch,
            )
        after = reestimate()
        seconds, losses = summary.seconds, [round(loss, 4) for loss in summary.losses]
    smaller.eval()
    return {
        "epochs": recovery.epochs,
        "seconds": round(seconds, 1),
        "losses": losses,
        "val_accuracy_before": before,
        "val_accuracy_after": after,
    }


def _save(
    folder: RunFolder,
    problem: PruningProblem,
    model: nn.Module,
    plan: PruningPlan,
    config: PruningConfig,
    report: dict[str, Any],
) -> None:
    """Write what a finished run leaves behind."""
    save_pruned(model, plan, folder.path)
    title = f"{problem.name}: MACs {report['ratios']['macs']:.1%} of the dense network"
    figure = figure_of_layers(problem.network, plan.masks(problem.network), title)
    folder.logger.record("result/layers", Figure(figure, close=True), exclude=NOT_TEXT)
    metrics = {
        "result/accuracy": report["pruned"]["accuracy"],
        "result/accuracy_drop": report["accuracy_drop"],
        "result/macs_ratio": report["ratios"]["macs"],
        "result/params_ratio": report["ratios"]["params"],
        "result/latency_ratio": report["ratios"]["latency_ms"],
    }
    for layer in report["layers"]:
        metrics[f"result/keep_ratio/{layer['name']}"] = layer["kept"] / layer["filters"]
    wanted: dict[str, bool | str | float] = {
        "model": problem.name,
        "data": report["data"],
        "method": report["method"],
        "target_macs": config.reward().target or 0.0,
        "drop_bound": config.drop_bound or 0.0,
        "evaluations": float(report["search"]["evaluations"]),
        "epochs": float(config.recovery.epochs),
        "seed": float(config.seed),
    }
    folder.log_result(wanted, metrics)
    write_report(folder.path, report)
