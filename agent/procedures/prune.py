"""The pruning pipeline: trace, search, cut, recover, measure, save, report."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from ...envs.problem.problem import PruningProblem
from ...envs.recovery.batchnorm import reestimate_batchnorm
from ...envs.recovery.finetuning import finetune
from ...envs.recovery.stopwatch import Stopwatch
from ...envs.surgery.cutting import save_pruned
from ...envs.surgery.plan import PruningPlan
from ...envs.tasks import Task, measure
from ...envs.tasks.optional_members import metric_name
from ...rewards import Reward
from ..deciders.names import PPO
from ..deciders.selection import SearchResult, choose
from ..learning.callbacks import ProgressBar, SearchMonitor
from ..learning.config import AgentConfig
from ..learning.frozen_agent import FrozenAgent
from ..learning.training import train_agent
from ..reporting.report import write_report
from ..reporting.summary import summarize_run
from ..reporting.trace_page import pinned_markdown
from ..run.folder import RunFolder
from ..run.progress import log_info
from ..run.recovery_monitor import RecoveryMonitor
from ..run.search_history import SearchHistory
from .config import PruningConfig
from .goal import Goal
from .layerwise import prune_layer_by_layer
from .preparation import Prepared, prepare
from .rounding import measure_plan, plan_without_rounding
from .tensorboard_summary import log_result


@dataclass(frozen=True)
class PruningResult:
    """The result of a pruning run.

    Args:
        model: The cut and recovered network, in evaluation mode.
        plan: The filters of the dense network that it keeps.
        report: The content of ``report.json``.
    """

    model: nn.Module
    plan: PruningPlan
    report: dict[str, Any]


def prune(
    model: nn.Module,
    task: Task,
    config: PruningConfig | None = None,
    *,
    prepared: Prepared | None = None,
    folder: RunFolder | None = None,
    name: str = "model",
    notes: Sequence[str] = (),
) -> PruningResult:
    """Prune a trained network.

    Args:
        model: The dense network; its weights are not changed, and it is set to evaluation mode.
        task: Data and metric, on the network's device.
        config: The options of the run; by default PPO prunes to half of the MACs.
        prepared: Result of :func:`.prepare`, if it was called before.
        folder: Folder of the run; None writes nothing to disk.
        name: Name of the network, for logs and the report.
        notes: Sentences for the report.

    Raises:
        ValueError: If nothing can be pruned, or the target or drop bound cannot be met.
        InexactCutError: If the cut network does not compute what the masked one does.
    """
    config = config or PruningConfig()
    prepared = prepared or prepare(model, task, config, name=name)
    network, goal = prepared.network, prepared.goal
    problem = PruningProblem.build(
        name,
        model.eval(),
        task,
        network=network,
        images=config.search_images,
        compensation_images=config.recovery.compensation_images,
        journal=folder.journal if folder else None,
        seed=config.seed,
    )
    if folder is not None:
        folder.log_text("pinned", pinned_markdown(network))
    search = prune_layer_by_layer if config.procedure == "layerwise" else _prune_at_once
    result = search(problem, goal, config, folder)
    pruned, plan = result.model, result.plan
    recovery = _recover(pruned, model, task, config, folder)
    report = summarize_run(
        problem,
        pruned,
        plan,
        [*prepared.notes, *notes],
        method=_method_label(result.decider, config),
        search=result.search,
        recovery=recovery,
        seed=config.seed,
        latency=config.latency,
        drop_bound=config.drop_bound,
        command=folder.command if folder else "",
    )
    if result.unrounded is not None:  # timed right after the pruned network, as the two are compared
        report["unrounded"] = measure_plan(result.unrounded, problem, config.latency)
    if folder is not None:
        _save(folder, problem, pruned, plan, goal.reward, config, report)
    return PruningResult(pruned, plan, report)


def _method_label(decider: str, config: PruningConfig) -> str:
    """Return the method for the report, with its variant in parentheses."""
    variant = ["frozen"] if config.method == PPO and not config.learning.evaluations else []
    variant += [config.procedure] if config.procedure != "network" else []
    return f"{decider} ({', '.join(variant)})" if variant else decider


def _prune_at_once(
    problem: PruningProblem, goal: Goal, config: PruningConfig, folder: RunFolder | None
) -> SearchResult:
    """Train an agent if there is no decider yet, choose the filters of all layers together, and cut."""
    journal = folder.journal if folder else None
    clock = journal.begin() if journal else Stopwatch()
    decider = goal.decider
    history = SearchHistory()
    evaluations = 0
    if decider is None:
        learning, initial = config.learning, goal.initial_agent
        if initial is not None:
            log_info(f"the search begins with an agent that was {initial.origin}")
        training = train_agent(
            [problem],
            goal.reward,
            learning,
            preferences=True,
            initial_agent=initial,
            seed=config.seed,
            logger=folder.logger if folder else None,
            callbacks=search_callbacks(history, learning, folder),
            history=history,
        )
        decider, evaluations = training.decider, training.evaluations
    if folder is not None and isinstance(decider, FrozenAgent):
        decider.save(folder.path)  # before anything else can fail
    # More images than in the search, partly different ones, as the agent may have overfitted to the search's.
    choice_problem = problem.choice_problem(config.choice_images, seed=config.seed + 1, journal=journal)
    choice = choose(choice_problem, decider, goal.reward)
    outcome = choice.outcome
    latency = "" if outcome.latency_ratio is None else f", latency {outcome.latency_ratio:.1%}"
    log_info(
        f"chosen: MACs {outcome.macs_ratio:.1%}{latency}, "
        f"{metric_name(problem.task)} {outcome.accuracy:.2f} % on val before fine-tuning"
    )
    search = {
        "evaluations": evaluations + choice.evaluations,
        "seconds": round(clock.seconds, 1),
        "val_accuracy": outcome.accuracy,
        "val_accuracy_drop": outcome.accuracy_drop,
        "rewards": [round(reward, 4) for reward in history.rewards],
        "candidates": history.columns_by_network().get(problem.name, {}),
    }
    if isinstance(decider, FrozenAgent):
        search["agent"] = decider.trained_on
    plan = PruningPlan.from_masks(problem.network, choice.masks)
    return SearchResult(
        problem.cut(plan),
        plan,
        decider.name,
        search,
        (
            plan_without_rounding(problem, decider, choice, goal.reward, config.constraints)
            if config.constraints.rounding
            else None
        ),
    )


def search_callbacks(
    history: SearchHistory, config: AgentConfig, folder: RunFolder | None
) -> list[BaseCallback]:
    """Create the callbacks of a search: a progress bar, and TensorBoard logging if there is a folder."""
    callbacks: list[BaseCallback] = [ProgressBar(history, config.evaluations)]
    if folder is not None:
        updates = -(-config.evaluations // config.episodes_per_update)  # rounded up
        callbacks.append(SearchMonitor(history, updates))
    return callbacks


def _recover(
    pruned: nn.Module, dense: nn.Module, task: Task, config: PruningConfig, folder: RunFolder | None
) -> dict[str, Any]:
    """Re-estimate batch-norm statistics, fine-tune with distillation, and re-estimate again."""
    recovery, logger = config.recovery, folder.logger if folder else None

    def reestimate() -> float:
        reestimate_batchnorm(pruned, task, images=recovery.batchnorm_images, seed=config.seed)
        return measure(pruned, task, "val", limit=config.choice_images).accuracy

    before = after = reestimate()
    if logger is not None:
        logger.record("recovery/val_accuracy", before)
        logger.dump(0)
    seconds, losses = 0.0, []
    if recovery.epochs:
        with RecoveryMonitor(pruned, task, folder, prefix="recovery") as monitor:
            summary = finetune(
                pruned,
                task,
                recovery,
                teacher=copy.deepcopy(dense) if recovery.distillation_weight else None,
                seed=config.seed,
                checkpoint=folder.checkpoint("recovery") if folder else None,
                on_step=monitor.on_step,
                on_epoch=monitor.on_epoch,
            )
        after = reestimate()
        seconds, losses = summary.seconds, [round(loss, 4) for loss in summary.losses]
    pruned.eval()
    return {
        "compensation_images": recovery.compensation_images,
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
    reward: Reward,
    config: PruningConfig,
    report: dict[str, Any],
) -> None:
    """Write the pruned network, TensorBoard's summary and the report."""
    save_pruned(model, plan, folder.path)
    log_result(folder, problem, plan, reward, config, report)
    write_report(folder.path, report)
