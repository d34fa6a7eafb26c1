"""The agent and the heuristics as systems, and the dense network trained for as long as the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ...envs.modules.copying import replica
from ...envs.recovery.batching import Batching
from ...envs.surgery.plan import PruningPlan
from ..deciders.finalists import ENTRIES
from ..deciders.names import BASELINES, PPO
from ..procedures.goal import Goal
from ..procedures.halving import rungs, total_epochs
from ..procedures.preparation import Prepared
from ..procedures.prune import choose_and_recover
from .base import Job, Kind, Result, System
from .training import train_stage

AGENT = "agent"
"""The agent's name among the systems; on the command line of ``secateur prune`` the method is ppo."""

TRAINED_ON = "dense-tuned"
"""The dense network, trained on: what the same passes would have given without pruning."""


@dataclass(frozen=True)
class Filters:
    """Choose filters as ``secateur prune`` does: the agent beside heuristics, or one heuristic alone.

    Args:
        method: A method of ``secateur prune``.
    """

    method: str
    kind: ClassVar[Kind] = "filters"

    def __call__(self, job: Job) -> Result:
        """Choose, cut and recover; see :func:`prune_within_passes`."""
        return prune_within_passes(job, self.method)


@dataclass(frozen=True)
class TrainedOn:
    """Train the dense network for as long as the others are trained; nothing is removed."""

    kind: ClassVar[Kind] = "filters"

    def __call__(self, job: Job) -> Result:
        """Train, with the recipe of the recovery and the dense network as its own teacher."""
        model = replica(job.model)
        train_stage(job, model, job.epochs, "training")
        return Result(model, PruningPlan.dense(job.network), job.epochs)


def prune_within_passes(job: Job, method: str, **options: Any) -> Result:
    """Prune as ``secateur prune`` does; finalists of the agent recover within the job's passes, too.

    Args:
        job: The job.
        method: A method of ``secateur prune``.
        **options: Options of :class:`.PruningConfig` that differ from the job's.

    Raises:
        ValueError: If the target cannot be met.
        InexactCutError: If the cut network does not compute what the masked one does.
    """
    recipe = job.config.recovery.recipe
    finalists_epochs = _finalists_epochs(job) if method == PPO else 0
    epochs = job.epochs - finalists_epochs
    config = replace(
        job.config,
        method=method,
        target_macs=job.target,
        epochs=epochs,
        schedule=recipe.schedule,  # of all passes, as fewer ones would get another
        learning_rate=recipe.learning_rate,
        warmup=recipe.warmup,
        **options,
    )
    # Where blocks may go, the size of the filters follows from what is left without them.
    size = replace(config, target_macs=1.0) if config.drop_blocks else config
    prepared = Prepared(job.network, Goal.resolve(size, job.network))
    done = choose_and_recover(
        job.model,
        job.task,
        config,
        prepared=prepared,
        folder=job.folder,
        name=job.name,
        finalists_epochs=finalists_epochs,
    )
    chosen = done.chosen
    result, search = chosen.result, chosen.result.search
    spent = epochs + (search["finalists"]["epochs"] if "finalists" in search else 0.0)
    details = {"decider": result.decider, **chosen.blocks, "search": search, "recovery": done.recovery}
    return Result(result.model, result.plan, spent, done.notes, details)


def _finalists_epochs(job: Job) -> int:
    """Return the passes that finalists take from the recovery, about the effort's share of the rest.

    None are taken if they are too few to train all finalists.
    """
    entries = ENTRIES[job.config.effort]
    epochs = job.epochs - max(1, round(job.epochs / (1 + entries.share)))
    steps = Batching.of(job.task, job.config.recovery).steps
    return epochs if epochs > 0 and total_epochs(rungs(entries.total, epochs, steps)) else 0


FILTERS: Mapping[str, System] = {
    AGENT: Filters(PPO),
    **{name: Filters(name) for name in BASELINES},
    TRAINED_ON: TrainedOn(),
}
"""The systems of this module by name."""
