"""Lottery tickets: what is pruned begins its training anew, with the weights that it began with before.

Frankle and Carbin 2019, arXiv 1803.03635: a network is trained, a share of its smallest weights goes, the
others get back the values that they had before the training, and so on. Larger networks need to go back to an
early state of the training instead of the random weights (Frankle et al. 2020, arXiv 1912.05671).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from ...envs.io.wording import counted
from ...envs.modules.copying import replica
from ...envs.modules.initialisation import frozen_note, reset_weights
from ...envs.recovery.callbacks import Progress
from ...envs.sparsity import Masks, apply_masks, keep_masks, magnitude_masks, remove_masks
from ...envs.sparsity.criteria import Scope
from ...envs.sparsity.filters import filter_masks
from ...envs.surgery.cutting import cut
from ...envs.surgery.plan import PruningPlan
from ..deciders.base import Budget
from .base import Job, Kind, Result
from .filter_ranking import highest_ranked, verified
from .masked_filters import check_unmasked
from .training import recipe_details, share_passes, steps_of_stage, train_stage
from .weights import masked_copy, sparse_result

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
        early: Passes to the state that weights go back to; 0 goes back to random weights.
        rounds: Passes of each round, in which the network is trained and pruned; at least one round.
        last: Passes of the ticket's own training.
    """

    early: float
    rounds: Sequence[float]
    last: float

    @classmethod
    def of(cls, job: Job, *, rewinds: bool) -> Schedule:
        """Share the passes: each round has at least one, if there are two in all."""
        wanted = math.ceil(math.log(job.target) / math.log(_KEPT_PER_ROUND) - 1e-9)
        early = _EARLY if rewinds else 0.0
        finding = _FINDING - early
        rounds = max(1, min(wanted, math.floor(finding * job.epochs)))
        shares = [*[early] * rewinds, *[finding / rounds] * rounds, 1 - _FINDING]
        *passes, last = share_passes(job, shares)
        return cls(passes.pop(0) if rewinds else 0.0, passes, last)

    def share(self, number: int, target: float) -> float:
        """Return what stays after a round, from 1 to ``rounds``, as a share of the dense network."""
        return target if number == len(self.rounds) else float(target ** (number / len(self.rounds)))

    def details(self, job: Job) -> dict[str, Any]:
        """Return the schedule and the recipe for the report."""
        return {
            "recovery": recipe_details(job.config.recovery, job.model, from_scratch=True),
            "rounds": len(self.rounds),
            "epochs_to_early_state": self.early,
            "epochs_of_each_round": list(self.rounds),
            "epochs_of_ticket": self.last,
            "share_after_each_round": [self.share(k, job.target) for k in range(1, len(self.rounds) + 1)],
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
        masked_copy(job)  # refuses weights that can have no mask before anything is trained
        start, notes = initial_state(job, schedule)
        given = keep_masks(job.model)
        masks: Masks = given
        for number, epochs in enumerate(schedule.rounds, start=1):
            model = with_masks(start, masks)
            train_stage(job, model, epochs, f"round-{number}", from_scratch=True)
            masks = given | magnitude_masks(model, schedule.share(number, job.target), self.scope)
        ticket = with_masks(start, masks)
        train_stage(job, ticket, schedule.last, "ticket", from_scratch=True)
        result = sparse_result(job, ticket, job.epochs, **schedule.details(job))
        return replace(result, notes=(*notes, *result.notes))


@dataclass(frozen=True)
class FilterLottery:
    """Find a ticket among the filters, and train it.

    Filters of all layers are ranked together, by :func:`.highest_ranked`; the last round's are cut from the
    network as it began, with random weights.
    """

    kind: ClassVar[Kind] = "filters"

    def __call__(self, job: Job) -> Result:
        """Train, rank and reset in rounds, then cut; see :class:`.base.System`."""
        network, schedule = job.network, Schedule.of(job, rewinds=False)
        check_unmasked(job)
        Budget(network, job.target, "macs")  # refuses a size out of reach before anything is trained
        start, notes = initial_state(job, schedule)
        kept = PruningPlan.dense(network).masks(network)
        for number, epochs in enumerate(schedule.rounds, start=1):
            model = with_masks(start, filter_masks(start, network, kept))
            train_stage(job, model, epochs, f"round-{number}", from_scratch=True)
            budget = Budget(network, schedule.share(number, job.target), "macs")
            kept = highest_ranked(model, job.model, budget, kept)
        plan = verified(job, kept)
        ticket = cut(start, network, plan)
        train_stage(job, ticket, schedule.last, "ticket", from_scratch=True)
        return Result(ticket, plan, job.epochs, notes, schedule.details(job))


def initial_state(job: Job, schedule: Schedule) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the network in the state that every round goes back to, and sentences about it."""
    start = remove_masks(replica(job.model))
    unknown = reset_weights(start, job.config.seed)
    notes = ["The ticket began with new random weights; those that the dense network once had are not known."]
    if unknown:
        named = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        have = counted(len(unknown), "parameter has", "parameters have")
        notes.append(f"{have} no default, and kept what training gave: {named}.")
    notes += frozen_note(start)
    if schedule.early:
        steps = steps_of_stage(job, schedule.early)

        def is_early(progress: Progress) -> bool:
            return progress.finished_steps >= steps

        # As long as the ticket's training, of which the state is the beginning; no average of the weights.
        raw = replace(job, config=replace(job.config, ema_decay=0.0))
        train_stage(raw, start, schedule.last, "early", on_step=is_early, from_scratch=True)
        notes.append(f"Weights went back to their state after {counted(schedule.early, 'epoch')}.")
    return start, tuple(notes)


def with_masks(start: nn.Module, masks: Masks) -> nn.Module:
    """Return a masked copy of a network."""
    model = replica(start)
    apply_masks(model, masks)
    return model
