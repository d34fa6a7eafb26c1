"""Lottery tickets: what is pruned begins its training anew, with the weights that it began with before.

Frankle and Carbin 2019, arXiv 1803.03635: a network is trained, a share of its smallest weights goes, the
others get back the values that they had before the training, and so on. Larger networks need to go back to an
early state of the training instead of the random weights (Frankle et al. 2020, arXiv 1912.05671).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import nn

from ...envs.modules.copying import replica
from ...envs.modules.initialisation import reset_weights
from ...envs.recovery.callbacks import Callback, Progress
from ...envs.recovery.config import RecoveryConfig
from ...envs.sparsity import Masks, apply_masks, magnitude_masks
from ...envs.sparsity.criteria import Scope
from ...envs.sparsity.filters import filter_masks
from ...envs.surgery.cutting import cut
from ...envs.surgery.plan import PruningPlan
from ..deciders.base import Budget
from .base import Job, Kind, Result
from .filter_ranking import highest_ranked, verified
from .masked_filters import check_unmasked
from .training import steps_per_epoch, train_stage
from .weights import sparse_result

_FINDING = 0.5
"""Share of the passes that finds the ticket. The rest trains it, at least as long as any round before, so
that the network that ships has a training worth the name."""

_KEPT_PER_ROUND = 0.8
"""Share of the survivors that stays in a round where passes suffice (Frankle and Carbin 2019, section 2)."""

_EARLY = 0.05
"""Early state: so many passes as a share of all. Frankle et al. 2020, figure 3, need 0.2 to 5 % of a
training, more for larger networks."""


@dataclass(frozen=True)
class Schedule:
    """How the passes of a job are shared.

    Args:
        rounds: Times that the network is trained and pruned, at least 1.
        early: Passes to the state that weights go back to; 0 goes back to random weights.
        round: Passes of each round.
        last: Passes of the ticket's own training.
    """

    rounds: int
    early: float
    round: float
    last: float

    @classmethod
    def of(cls, job: Job, *, rewinds: bool) -> Schedule:
        """Share the passes: each round has at least one, if there are two in all."""
        wanted = math.ceil(math.log(job.target) / math.log(_KEPT_PER_ROUND) - 1e-9)
        early = _EARLY * job.epochs if rewinds else 0.0
        finding = _FINDING * job.epochs - early
        rounds = max(1, min(wanted, math.floor(finding)))
        return cls(rounds, early, finding / rounds, (1 - _FINDING) * job.epochs)

    def share(self, number: int, target: float) -> float:
        """Return what stays after a round, from 1 to ``rounds``, as a share of the dense network."""
        return target if number == self.rounds else float(target ** (number / self.rounds))

    @property
    def epochs(self) -> float:
        """Passes of all trainings."""
        return self.early + self.rounds * self.round + self.last

    def details(self, target: float) -> dict[str, Any]:
        """Return the schedule for the report."""
        return {
            "rounds": self.rounds,
            "epochs_to_early_state": self.early,
            "epochs_of_each_round": self.round,
            "epochs_of_ticket": self.last,
            "share_after_each_round": [self.share(k + 1, target) for k in range(self.rounds)],
        }


@dataclass(frozen=True)
class Lottery:
    """Find a ticket among the weights by magnitude, and train it.

    Args:
        rewinds: Whether weights go back to an early state instead of random weights.
        scope: On which scale magnitudes are compared. Frankle and Carbin 2019 prune each layer of small
            networks (section 2), and larger networks globally (section 4).
    """

    rewinds: bool = False
    scope: Scope = "layer"
    kind: ClassVar[Kind] = "weights"

    def __call__(self, job: Job) -> Result:
        """Train, prune and reset in rounds; see :class:`.base.System`."""
        schedule = Schedule.of(job, rewinds=self.rewinds)
        start, notes = initial_state(job, schedule)
        masks: Masks = {}
        for number in range(1, schedule.rounds + 1):
            model = with_masks(start, masks)
            train_anew(job, model, schedule.round, f"round-{number}")
            masks = magnitude_masks(model, schedule.share(number, job.target), self.scope)
        ticket = with_masks(start, masks)
        train_anew(job, ticket, schedule.last, "ticket")
        result = sparse_result(job, ticket, schedule.epochs, **schedule.details(job.target))
        return replace(result, notes=(*notes, *result.notes))


@dataclass(frozen=True)
class FilterLottery:
    """Find a ticket among the filters, and train it.

    Filters of all layers are ranked together, by :func:`.highest_ranked`; the last round's are cut from the
    network as it began.

    Args:
        rewinds: Whether weights go back to an early state instead of random weights.
    """

    rewinds: bool = False
    kind: ClassVar[Kind] = "filters"

    def __call__(self, job: Job) -> Result:
        """Train, rank and reset in rounds, then cut; see :class:`.base.System`."""
        check_unmasked(job.model)
        network, schedule = job.network, Schedule.of(job, rewinds=self.rewinds)
        Budget(network, job.target, "macs")
        start, notes = initial_state(job, schedule)
        kept = PruningPlan.dense(network).masks(network)
        for number in range(1, schedule.rounds + 1):
            model = with_masks(start, filter_masks(start, network, kept))
            train_anew(job, model, schedule.round, f"round-{number}")
            budget = Budget(network, schedule.share(number, job.target), "macs")
            kept = highest_ranked(model, job.model, budget, kept)
        plan = verified(job, kept)
        ticket = cut(start, network, plan)
        train_anew(job, ticket, schedule.last, "ticket")
        return Result(ticket, plan, schedule.epochs, notes, schedule.details(job.target))


def initial_state(job: Job, schedule: Schedule) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the network in the state that every round goes back to, and sentences about it."""
    start = replica(job.model)
    unknown = reset_weights(start, job.config.seed)
    notes = ["The ticket began with new random weights; those that the dense network once had are not known."]
    if unknown:
        named = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        notes.append(f"{len(unknown)} parameters have no default, and kept their trained values: {named}.")
    if schedule.early:
        steps = max(1, round(schedule.early * steps_per_epoch(job)))

        def is_early(progress: Progress) -> bool:
            return progress.finished_steps >= steps

        # As long as the ticket's training, of which the state is the beginning.
        train_anew(job, start, schedule.last, "early", on_step=is_early)
        notes.append(f"Weights went back to their state after {schedule.early:g} epochs.")
    return start, tuple(notes)


def train_anew(
    job: Job, model: nn.Module, epochs: float, name: str, *, on_step: Callback | None = None
) -> None:
    """Train from (almost) random weights, as :func:`.train_stage`, at the rate that such a training needs.

    That is the rate of :meth:`.RecoveryConfig.from_scratch`, unless the job gives one, or another optimiser.
    """
    recovery, changes = job.config.recovery, {}
    if recovery.learning_rate is None and recovery.optimiser == "sgd":
        changes["learning_rate"] = RecoveryConfig.from_scratch().learning_rate
    train_stage(job, model, epochs, name, on_step=on_step, teacher=job.model, **changes)


def with_masks(start: nn.Module, masks: Masks) -> nn.Module:
    """Return a masked copy of a network."""
    model = replica(start)
    apply_masks(model, {name: mask.to(torch.bool) for name, mask in masks.items()})
    return model
