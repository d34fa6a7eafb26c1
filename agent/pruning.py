"""The whole job: trace, decide, cut, recover, measure, save, report."""

import copy
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from stable_baselines3.common.logger import Figure, Logger
from torch import nn

from ..envs.cost import cost, latency_ms
from ..envs.evaluation import CandidateEvaluator
from ..envs.problem import PruningProblem
from ..envs.recovery import finetune, reestimate_batchnorm
from ..envs.rendering import figure_of_layers
from ..envs.surgery import PruningPlan, cut, save_pruned
from ..envs.tasks import Task, measure
from ..envs.tracing import TracedNetwork
from ..envs.verification import trace_exactly, verify_cut
from .baselines import Baseline
from .callbacks import Checkpoints, ProgressBar, SearchMonitor
from .config import PruningConfig
from .deciders import Budget, Decider
from .learned import LearnedDecider
from .progress import RecoveryMonitor, say
from .report import write_report
from .run_folder import NOT_TEXT, RunFolder
from .selection import Choice, choose
from .training import train_agent
from .versions import device_name, versions


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


def prune(
    model: nn.Module,
    task: Task,
    config: PruningConfig | None = None,
    *,
    network: TracedNetwork | None = None,
    folder: RunFolder | None = None,
    name: str = "model",
) -> PruningResult:
    """Prune a trained network.

    Args:
        model: The dense network; it is left as it is.
        task: Data and metric, on the network's device.
        config: What is wanted; by default half of the MACs, decided by PPO.
        network: Its trace, if :func:`check` was called before.
        folder: Where the run is kept; None keeps nothing on disk.
        name: Of the network, for logs and the report.

    Raises:
        ValueError: If nothing can be pruned, or not what is wanted.
    """
    config = config or PruningConfig()
    model.eval()
    problem = PruningProblem.build(
        name,
        model,
        task,
        network=network or check(model, task, config),
        images=config.search_images,
        seed=config.seed,
    )
    started, logger = time.perf_counter(), folder.logger if folder else None
    decider, searched = _decider(problem, config, folder)
    choice = _choose(problem, decider, config)
    seconds = time.perf_counter() - started
    found = choice.outcome
    say(f"chosen: MACs {found.macs_ratio:.1%}, accuracy {found.accuracy:.2f} % on val before fine-tuning")

    plan = PruningPlan.from_masks(problem.network, choice.masks)
    verify_cut(model, problem.network, plan, torch.zeros(2, *task.input_shape))
    smaller = cut(model, problem.network, plan)
    reestimate_batchnorm(smaller, task, images=config.recovery.batchnorm_images, seed=config.seed)
    recovery = _recover(smaller, model, task, config, logger)
    report = {
        "model": name,
        "data": task.name,
        "method": decider.name if config.agent is None else f"{decider.name} (frozen)",
        **_compare(model, smaller, task, problem, plan),
        "layers": [
            {"name": layer, "filters": plan.filters[layer], "kept": len(kept)}
            for layer, kept in plan.kept.items()
        ],
        "search": {
            "evaluations": searched + choice.evaluations,
            "seconds": round(seconds, 1),
            "val_accuracy": choice.outcome.accuracy,
            "val_accuracy_drop": choice.outcome.accuracy_drop,
        },
        "recovery": recovery,
        "splits": {
            "train": task.size("train"),
            "val": task.size("val"),
            "test": task.size("test"),
            "notes": list(task.notes),
        },
        "seed": config.seed,
        "command": folder.command if folder else "",
        "versions": versions(),
        "device": device_name(model),
        "pinned": [
            {"name": p.name, "pinned": p.pinned, "filters": p.filters, "cause": str(p.cause)}
            for p in problem.network.pinned
        ],
    }
    if folder is not None:
        _save(folder, problem, smaller, plan, decider, config, report)
    return PruningResult(smaller, plan, report)


def check(model: nn.Module, task: Task, config: PruningConfig) -> TracedNetwork:
    """Trace a network and find out, before anything is trained or written, whether what is wanted can be had.

    Raises:
        ValueError: If the network does not run on the task's images, pinned filters make the target
            unreachable, or the agent cannot be loaded.
    """
    network = trace_exactly(model, torch.zeros(2, *task.input_shape))
    if target := config.reward().target:
        Budget(network, target, config.reward().size)
    if config.agent is not None:
        LearnedDecider.load(config.agent)
    return network


def _decider(problem: PruningProblem, config: PruningConfig, folder: RunFolder | None) -> tuple[Decider, int]:
    """Give who decides, and how many candidates were measured to make it."""
    if config.agent is not None:
        return LearnedDecider.load(config.agent, seed=config.seed), 0
    if config.method != "ppo":
        return Baseline.from_name(config.method, config.seed), 0
    training = train_agent(
        [problem],
        config.reward(),
        config.search,
        seed=config.seed,
        logger=folder.logger if folder else None,
        callbacks=search_callbacks(config.search.evaluations, config.search.episodes_per_update, folder),
    )
    return training.decider, training.evaluations


def search_callbacks(evaluations: int, episodes_per_update: int, folder: RunFolder | None) -> list[Any]:
    """Watch a search: TensorBoard and checkpoints where there is a folder, always a progress bar."""
    watchers: list[Any] = [ProgressBar(evaluations)]
    if folder is not None:
        updates = evaluations // episodes_per_update
        watchers += [SearchMonitor(updates), Checkpoints(folder.path / "checkpoints")]
    return watchers


def _choose(problem: PruningProblem, decider: Decider, config: PruningConfig) -> Choice:
    """Choose among the decider's proposals, on more images than the search looked at."""
    evaluator = CandidateEvaluator(
        problem.model,
        problem.network,
        problem.task,
        images=4 * config.search_images,
        statistics_images=512,
        seed=config.seed + 1,
    )
    wide = PruningProblem(
        problem.name,
        problem.model,
        problem.network,
        problem.task,
        evaluator,
        problem.scores,
        problem.features,
    )
    return choose(wide, decider, config.reward())


def _recover(
    smaller: nn.Module, dense: nn.Module, task: Task, config: PruningConfig, logger: Logger | None
) -> dict[str, Any]:
    """Fine-tune the cut network, learning from the dense one too."""
    before = measure(smaller, task, "val", limit=4 * config.search_images)
    if logger is not None:
        logger.record("recovery/val_accuracy", before.accuracy)
        logger.dump(0)
    seconds, losses = 0.0, []
    if config.recovery.epochs:
        with RecoveryMonitor(smaller, task, config.recovery.epochs, logger, prefix="recovery") as monitor:
            summary = finetune(
                smaller,
                task,
                config.recovery,
                teacher=copy.deepcopy(dense) if config.recovery.distillation_weight else None,
                seed=config.seed,
                on_step=monitor.on_step,
                on_epoch=monitor.on_epoch,
            )
        seconds, losses = summary.seconds, [round(loss, 4) for loss in summary.losses]
    smaller.eval()
    return {
        "epochs": config.recovery.epochs,
        "seconds": round(seconds, 1),
        "losses": losses,
        "val_accuracy_before": before.accuracy,
    }


def _compare(
    dense: nn.Module, pruned: nn.Module, task: Task, problem: PruningProblem, plan: PruningPlan
) -> dict[str, Any]:
    """Measure both networks on test, once, and count what they cost."""
    example = torch.zeros(1, *task.input_shape, device=next(dense.parameters()).device)
    rows: dict[str, dict[str, float]] = {}
    for key, model, kept in (
        ("dense", dense, problem.network.widths),
        ("pruned", pruned, plan.counts(problem.network)),
    ):
        measured = measure(model, task, "test")
        rows[key] = {
            "accuracy": measured.accuracy,
            "loss": measured.loss,
            **asdict(cost(problem.network, kept)),
            "latency_ms": latency_ms(model, example),
        }
    ratios = {
        key: rows["pruned"][key] / rows["dense"][key] for key in ("macs", "params", "filters", "latency_ms")
    }
    return {**rows, "ratios": ratios, "accuracy_drop": rows["dense"]["accuracy"] - rows["pruned"]["accuracy"]}


def _save(
    folder: RunFolder,
    problem: PruningProblem,
    model: nn.Module,
    plan: PruningPlan,
    decider: Decider,
    config: PruningConfig,
    report: dict[str, Any],
) -> None:
    """Write everything that a finished run leaves behind."""
    save_pruned(model, plan, folder.path)
    if isinstance(decider, LearnedDecider):
        decider.save(folder.path)
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
        "evaluations": float(config.search.evaluations),
        "epochs": float(config.recovery.epochs),
        "seed": float(config.seed),
    }
    folder.log_result(wanted, metrics)
    write_report(folder.path, report)
