"""The agent and the heuristics as systems, and the dense network trained for as long as the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...envs.modules.copying import replica
from ...envs.surgery.plan import PruningPlan
from ..deciders.finalists import ENTRIES
from ..deciders.names import BASELINES, PPO
from ..procedures.goal import Goal
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
    kind: Kind = "filters"

    def __call__(self, job: Job) -> Result:
        """Choose, cut and recover; the finalists of the agent recover within the job's passes, too.

        Raises:
            ValueError: If the target cannot be met.
            InexactCutError: If the cut network does not compute what the masked one does.
        """
        recipe = job.config.recovery.recipe
        config = replace(
            job.config,
            method=self.method,
            target_macs=job.target,
            epochs=self._recovery_epochs(job),
            schedule=recipe.schedule,  # of all passes, as fewer ones would get another
            learning_rate=recipe.learning_rate,
            warmup=recipe.warmup,
        )
        prepared = Prepared(job.network, Goal.resolve(config, job.network))
        done = choose_and_recover(
            job.model, job.task, config, prepared=prepared, folder=job.folder, name=job.name
        )
        finalists = done.result.search.get("finalists")
        spent = config.recovery.recipe.epochs + (finalists["epochs"] if finalists else 0.0)
        return Result(
            done.result.model,
            done.result.plan,
            spent,
            done.notes,
            {"decider": done.result.decider, "search": done.result.search, "recovery": done.recovery},
        )

    def _recovery_epochs(self, job: Job) -> int:
        """Return the passes of the recovery: what the short recoveries of the finalists leave, at least 1."""
        if self.method != PPO or not job.epochs:
            return job.epochs
        return max(1, math.floor(job.epochs / (1 + ENTRIES[job.config.effort].share) + 1e-9))


@dataclass(frozen=True)
class TrainedOn:
    """Train the dense network for as long as the others are trained; nothing is removed."""

    kind: Kind = "filters"

    def __call__(self, job: Job) -> Result:
        """Train, with the recipe of the recovery and the dense network as its own teacher."""
        model = replica(job.model)
        teacher = job.model if job.config.distillation_weight else None
        train_stage(job, model, job.epochs, "training", teacher=teacher)
        return Result(model, PruningPlan.dense(job.network), job.epochs)


FILTERS: Mapping[str, System] = {
    AGENT: Filters(PPO),
    **{name: Filters(name) for name in BASELINES},
    TRAINED_ON: TrainedOn(),
}
"""The systems of this module by name."""
