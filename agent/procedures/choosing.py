"""Choose what goes: first whole blocks, if they may, then filters by the procedure of the run."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from ...envs.problem.problem import PruningProblem
from ...envs.recovery.callbacks import NO_CALLBACKS, Callbacks
from ...envs.recovery.stopwatch import Stopwatch
from ...envs.tasks import Task
from ..deciders.finalists import ENTRIES
from ..deciders.selection import SearchResult
from ..reporting.trace_page import pinned_markdown
from ..run.folder import RunFolder
from .blocks import drop_chosen_blocks
from .config import PruningConfig
from .devices import engine_of
from .drop_bound import WithinBound, prune_within_bound
from .goal import Goal
from .halving import Halving
from .layerwise import prune_layer_by_layer
from .preparation import Prepared
from .schedule import Schedule
from .search import halves_for, prune_at_once
from .teacher import Teacher


@dataclass(frozen=True)
class Chosen:
    """What was chosen.

    Args:
        problem: The dense network, or that without the blocks that went, and the data of the search.
        goal: The goal for it.
        result: The filters, and the network without the others.
        notes: Sentences for the report.
        blocks: The report's entry on blocks; empty if none might go.
        bounded: With a bound on the drop after the recovery, the network that was recovered; else None.
    """

    problem: PruningProblem
    goal: Goal
    result: SearchResult
    notes: tuple[str, ...]
    blocks: dict[str, Any]
    bounded: WithinBound | None = None


def choose(
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
) -> Chosen:
    """Choose the filters that stay, and cut the others.

    Args:
        model: The dense network; its weights are not changed, and it is set to evaluation mode.
        task: Data and metric, on the network's device.
        config: The options of the run.
        prepared: Result of :func:`.prepare`.
        folder: Folder of the run; None writes nothing.
        name: Name of the network, for logs and the report.
        clock: The time that the job has taken so far, for its time limit; None begins now.
        teacher: The network to distil from in recoveries that are part of the choice; None for none.
        callbacks: What is called in the recovery of a network within a bound.
        finalists_epochs: Epochs of all finalists together; None takes the effort's share of the recovery's.

    Raises:
        ValueError: If nothing can be pruned, or the target or drop bound cannot be met.
        InexactCutError: If the cut network does not compute what the masked one does.
    """
    clock = clock or Stopwatch()
    entry: dict[str, Any] = {}
    blocks: tuple[str, ...] = ()
    if config.drop_blocks:
        without = drop_chosen_blocks(model.eval(), task, prepared, config, name=name, folder=folder)
        model, prepared, config = without.model, without.prepared, without.config
        blocks, entry = without.blocks, {"blocks": without.report}
    goal, journal = prepared.goal, folder.journal if folder else None
    halves = halves_for(task, goal, config)
    bounded: WithinBound | None = None
    with engine_of(config, model, journal) as engine:
        problem = PruningProblem.build(
            name,
            model.eval(),
            halves.search if halves else task,
            network=prepared.network,
            images=config.search_images,
            compensation_images=config.recovery.compensation_images,
            engine=engine,
            journal=journal,
            seed=config.seed,
            quantize=config.quantize is not None,
        )
        if folder is not None:
            folder.log_text("pinned", pinned_markdown(prepared.network))
        tutor = teacher.model if teacher else None
        if finalists_epochs is None:
            finalists_epochs = ENTRIES[config.effort].share * config.recovery.recipe.epochs
        schedule = Schedule.estimate(problem, goal, config, tutor, finalists_epochs)
        limit = schedule.search_limit(config.minutes, clock)
        schedule.announce(config, limit)
        if config.procedure == "layerwise":
            result = prune_layer_by_layer(problem, goal, config, folder, tutor)
        elif config.bound_after_recovery is not None:
            assert halves is not None
            bounded = prune_within_bound(problem, goal, config, halves, folder, teacher, callbacks)
            result = bounded.result
        else:
            halving = None
            if halves is not None:
                halving = Halving(
                    problem, halves.judge, config.recovery, tutor, seed=config.seed, folder=folder
                )
            result = prune_at_once(
                problem,
                goal,
                config,
                folder,
                limit,
                halving=halving,
                affordable=partial(schedule.affordable, config.minutes, clock),
                finalists_epochs=finalists_epochs,
            )
    result = replace(result, plan=replace(result.plan, blocks=blocks))
    return Chosen(problem, goal, result, (halves.note,) if halves else (), entry, bounded)
