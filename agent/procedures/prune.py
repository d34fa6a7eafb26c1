"""The pruning pipeline: trace, search, cut, recover, measure, save, report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ...envs.modules.copying import replica
from ...envs.problem.problem import PruningProblem
from ...envs.quantization.insertion import remove_fake_quantization
from ...envs.quantization.ranges import Ranges, ranges_of, save_ranges
from ...envs.recovery.callbacks import NO_CALLBACKS, Callbacks
from ...envs.recovery.data_parallel import sharing_notes
from ...envs.recovery.stopwatch import Stopwatch
from ...envs.surgery.cutting import save_pruned
from ...envs.surgery.plan import PruningPlan
from ...envs.tasks import Task
from ...rewards import Reward
from ..deciders.names import PPO
from ..reporting.report import plain_values, write_report
from ..reporting.summary import Dense, summarize_int8, summarize_run
from ..run.folder import RunFolder
from .choosing import Chosen, choose
from .config import PruningConfig
from .preparation import Prepared, logged, prepare
from .recovery import recover_pruned
from .rounding import measure_plan
from .teacher import Teacher, teacher_for
from .tensorboard_summary import log_result

_KNOWS_VAL = (
    "The recovery trained on the images of val, too (--train-on-val): no accuracy on val is given after it."
)


@dataclass(frozen=True)
class PruningResult:
    """The result of a pruning run.

    Args:
        model: The cut and recovered network, in evaluation mode.
        plan: The filters of the dense network that it keeps.
        report: The content of ``report.json``; what JSON has not, such as NaN, included.
        ranges: With ``quantize``, the ranges of the activations in int8; ``fake_quantize_`` and
            ``set_ranges`` of :mod:`secateur.envs.quantization` put ``model`` under them.
    """

    model: nn.Module
    plan: PruningPlan
    report: dict[str, Any]
    ranges: Ranges | None = None


def prune(
    model: nn.Module,
    task: Task,
    config: PruningConfig | None = None,
    *,
    prepared: Prepared | None = None,
    folder: RunFolder | None = None,
    name: str = "model",
    notes: Sequence[str] = (),
    clock: Stopwatch | None = None,
    teacher: Teacher | None = None,
    callbacks: Callbacks = NO_CALLBACKS,
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
        clock: The time that the job has taken so far, for its time limit; None begins now.
        teacher: The network to distil from, checked by :func:`.check_teacher`; None is the dense network.
        callbacks: What is called while the cut network is fine-tuned.

    Raises:
        ValueError: If nothing can be pruned, or the target or drop bound cannot be met.
        InexactCutError: If the cut network does not compute what the masked one does.
    """
    config, clock = config or PruningConfig(), clock or Stopwatch()
    prepared = prepared or prepare(model, task, config, name=name)
    done = choose_and_recover(
        model,
        task,
        config,
        prepared=prepared,
        folder=folder,
        name=name,
        clock=clock,
        teacher=teacher,
        callbacks=callbacks,
    )
    chosen = done.chosen
    problem, result, pruned, plan = chosen.problem, chosen.result, chosen.result.model, chosen.result.plan
    simulated = None
    if config.quantize:
        simulated = replica(pruned)
        remove_fake_quantization(pruned)
    report = summarize_run(
        replace(problem, task=task),
        pruned,
        plan,
        [*prepared.notes, *notes, *done.notes],
        method=_method_label(result.decider, config),
        search=result.search,
        recovery=done.recovery,
        seed=config.seed,
        latency=config.latency,
        drop_bound=config.drop_bound,
        drop_on_val=chosen.bounded.check if chosen.bounded else None,
        command=folder.command if folder else "",
        dense=Dense(model, prepared.network),
        **chosen.blocks,
    )
    if result.unrounded is not None:  # timed right after the pruned network, as the two are compared
        unrounded = result.unrounded
        report["unrounded"] = measure_plan(unrounded, problem, config.latency, prepared.network)
    ranges = None
    if simulated is not None:
        ranges = ranges_of(simulated)
        report["int8"] = summarize_int8(simulated, task, report)
    report = plain_values(report, undefined=math.nan)
    if folder is not None:
        _save(folder, problem, pruned, plan, chosen.goal.reward, config, report, ranges)
    return PruningResult(pruned, plan, report, ranges)


@dataclass(frozen=True)
class Pruned:
    """A network whose filters were chosen, cut and fine-tuned, before it is measured on test.

    Args:
        chosen: The choice, whose network has been recovered.
        recovery: The report's entries on the recovery.
        notes: Sentences for the report.
    """

    chosen: Chosen
    recovery: dict[str, Any]
    notes: tuple[str, ...]


def choose_and_recover(
    model: nn.Module,
    task: Task,
    config: PruningConfig,
    *,
    prepared: Prepared,
    folder: RunFolder | None = None,
    name: str = "model",
    clock: Stopwatch | None = None,
    teacher: Teacher | None = None,
    callbacks: Callbacks = NO_CALLBACKS,
    finalists_epochs: float | None = None,
) -> Pruned:
    """Prune a trained network, without the report; arguments and errors as for :func:`prune`.

    ``finalists_epochs`` are those of all finalists together; None takes the effort's share of the recovery's.
    """
    teacher = teacher_for(teacher, model.eval(), config.recovery)
    chosen = choose(
        model,
        task,
        config,
        prepared=prepared,
        folder=folder,
        name=name,
        clock=clock,
        teacher=teacher,
        callbacks=callbacks,
        finalists_epochs=finalists_epochs,
    )
    if chosen.bounded is not None:  # the choice was by networks that were recovered
        recovery, said = chosen.bounded.recovery, chosen.bounded.notes
    else:
        recovery, said = recover_pruned(chosen.result.model, teacher, task, config, folder, callbacks)
    notes = (
        *(() if chosen.bounded else chosen.notes),
        *logged(said),
        *([_KNOWS_VAL] if recovery["val_accuracy_after"] is None else []),
        *(sharing_notes(chosen.result.model) if config.recovery.epochs else ()),
    )
    return Pruned(chosen, recovery, notes)


def _method_label(decider: str, config: PruningConfig) -> str:
    """Return the method for the report, with its variant in parentheses."""
    variant = ["frozen"] if config.method == PPO and not config.learning.evaluations else []
    variant += [config.procedure] if config.procedure != "network" else []
    variant += [f"{decider} was chosen"] if decider != config.method else []
    return f"{config.method} ({', '.join(variant)})" if variant else config.method


def _save(
    folder: RunFolder,
    problem: PruningProblem,
    model: nn.Module,
    plan: PruningPlan,
    reward: Reward,
    config: PruningConfig,
    report: dict[str, Any],
    ranges: Ranges | None,
) -> None:
    """Write the pruned network, its ranges, TensorBoard's summary and the report."""
    folder.write(lambda path: save_pruned(model, plan, path))
    if ranges is not None:
        folder.write(lambda path: save_ranges(ranges, path))
    log_result(folder, problem, plan, reward, config, report)
    folder.write(lambda path: write_report(path, report))
