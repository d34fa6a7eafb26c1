"""Layers of low rank, of the dense network or after a cut of filters.

The ranks are chosen for the target, then the network is trained with the dense one as teacher, as after a
cut of filters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ...envs.io.wording import counted
from ...envs.problem.problem import PruningProblem
from ...envs.recovery.batchnorm import reestimate_batchnorm
from ...envs.surgery.low_rank import Spectrum, low_rank
from ...envs.surgery.low_rank_choice import choose_ranks
from ...envs.surgery.low_rank_layers import find_rank_layers
from ...envs.surgery.output_moments import output_moments
from ...envs.surgery.plan import PruningPlan
from ..deciders.baselines import Baseline
from .base import Job, Kind, Result
from .training import train_stage


@dataclass(frozen=True)
class Rank:
    """Make layers of low rank, after a cut of filters or without one.

    Args:
        filters: The method of the cut, a name in :data:`.BASELINES`; None cuts no filters. The cut goes half
            of the way: to the square root of the target, so that both save the same factor.
    """

    filters: str | None = None
    kind: ClassVar[Kind] = "rank"

    def __call__(self, job: Job) -> Result:
        """Choose ranks and train; see :class:`.System`.

        Raises:
            ValueError: If the target cannot be met.
        """
        model, plan = job.model, PruningPlan.dense(job.network)
        if self.filters is not None:
            model, plan = cut_filters(job, self.filters, math.sqrt(job.target))
        smaller, plan, whole = to_low_rank(job, model, plan)
        train_stage(job, smaller, job.epochs, "recovery")
        return Result(smaller, plan, job.epochs, _notes(plan, whole), {"ranks": dict(plan.ranks)})


def to_low_rank(
    job: Job, model: nn.Module, plan: PruningPlan
) -> tuple[nn.Module, PruningPlan, Mapping[str, str]]:
    """Make layers of low rank until a network meets the target of a job.

    Args:
        job: The job.
        model: The dense or cut network; it is not changed.
        plan: The plan that it was cut by.

    Returns:
        The smaller network, in evaluation mode; the plan with its ranks; and why layers stay whole, by module
        name.

    Raises:
        ValueError: If the target cannot be met.
    """
    found = find_rank_layers(model, job.network.calls)
    names, images = [layer.name for layer in found.layers], job.config.compensation_images
    moments = output_moments(model, names, job.task, images=images, seed=job.config.seed) if images else {}
    spectra = {name: Spectrum.of(model.get_submodule(name), moments.get(name)) for name in names}
    dense_macs = float(job.network.macs(job.network.widths))
    try:
        ranks = choose_ranks(
            found.layers,
            {name: spectrum.energies for name, spectrum in spectra.items()},
            float(job.network.macs(plan.counts(job.network))),
            job.target * dense_macs,
            dense_macs=dense_macs,
        )
    except ValueError as error:
        raise ValueError(f"{error}{_stay(found.refused)}") from error
    return low_rank(model, ranks, spectra).eval(), plan.with_ranks(ranks), found.refused


def cut_filters(job: Job, method: str, target: float) -> tuple[nn.Module, PruningPlan]:
    """Cut filters by a published criterion, with compensation, and re-estimate batch-norm statistics.

    Args:
        job: The job; its own target is not looked at.
        method: A name in :data:`.BASELINES`.
        target: Largest share of the MACs that stays, in (0, 1].

    Returns:
        The cut network, in evaluation mode, and its plan.

    Raises:
        ValueError: If the target cannot be met.
    """
    recovery, seed = job.config.recovery, job.config.seed
    problem = PruningProblem.build(
        job.name,
        job.model,
        job.task,
        network=job.network,
        images=job.config.search_images,
        compensation_images=recovery.compensation_images,
        seed=seed,
    )
    (masks,) = Baseline.from_name(method, seed).decide(problem, target, "macs")
    plan = PruningPlan.from_masks(job.network, masks)
    model = problem.cut(plan)
    reestimate_batchnorm(model, job.task, images=recovery.batchnorm_images, seed=seed)
    return model.eval(), plan


def _notes(plan: PruningPlan, whole: Mapping[str, str]) -> tuple[str, ...]:
    return (f"{counted(len(plan.ranks), 'layer')} became two of low rank{_stay(whole)}.",)


def _stay(whole: Mapping[str, str]) -> str:
    """Say how many layers stay whole, and why."""
    reasons = Counter(whole.values()).items()
    return "".join(
        f"; {counted(n, 'layer stays whole, as', 'layers stay whole, each as')} {reason}"
        for reason, n in reasons
    )
