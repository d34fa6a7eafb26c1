"""Networks that are trained for int8, whole or after a cut (Jacob et al. 2018, arXiv 1712.05877)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ...envs.modules.copying import replica
from ...envs.problem.problem import PruningProblem
from ...envs.quantization.insertion import quantize_, remove_fake_quantization
from ...envs.quantization.ranges import ranges_of, save_ranges
from ...envs.recovery.batchnorm import reestimate_batchnorm
from ...envs.surgery.plan import PruningPlan
from ...envs.tasks import measure
from ...rewards import TargetReward
from ..deciders.baselines import Baseline
from ..deciders.selection import choose
from .base import Job, Kind, Result
from .training import train_stage

METHOD = "fpgm-global"
"""The heuristic that chooses the filters before the quantisation."""


@dataclass(frozen=True)
class Int8:
    """Train the dense network under fake quantisation; no filter goes, whatever the target is."""

    kind: Kind = "int8"

    def __call__(self, job: Job) -> Result:
        """Train for all of the job's passes."""
        note = (
            "No filter goes: the target does not count, and the MACs are those of the dense network, in int8."
        )
        return _quantized(job, replica(job.model), PruningPlan.dense(job.network), (note,))


@dataclass(frozen=True)
class PrunedInt8:
    """Cut the network to the target by a heuristic, and recover it under fake quantisation."""

    kind: Kind = "int8"

    def __call__(self, job: Job) -> Result:
        """Cut, and train for all of the job's passes.

        Raises:
            ValueError: If the target cannot be met.
        """
        problem = PruningProblem.build(
            job.name,
            job.model,
            job.task,
            network=job.network,
            compensation_images=job.config.recovery.compensation_images,
            seed=job.config.seed,
            quantize=True,
        ).choice_problem(job.config.choice_images, seed=job.config.seed + 1)
        choice = choose(problem, Baseline.from_name(METHOD, job.config.seed), TargetReward(job.target))
        plan = PruningPlan.from_masks(job.network, choice.masks)
        return _quantized(job, problem.cut(plan), plan, ())


def _quantized(job: Job, model: nn.Module, plan: PruningPlan, notes: tuple[str, ...]) -> Result:
    """Train a network under fake quantisation for all of the job's passes."""
    recovery = job.config.recovery
    reestimate_batchnorm(model, job.task, images=recovery.batchnorm_images, seed=job.config.seed)
    quantize_(model, job.task, seed=job.config.seed)
    teacher = job.model if recovery.distillation_weight else None
    train_stage(job, model, job.epochs, "int8", teacher=teacher)
    ranges = ranges_of(model)
    if job.folder is not None:
        job.folder.write(lambda path: save_ranges(ranges, path))
    in_float = remove_fake_quantization(replica(model))
    accuracies = {
        "val_accuracy_int8": measure(model, job.task, "val").accuracy,
        "val_accuracy_float": measure(in_float, job.task, "val").accuracy,
    }
    return Result(model, plan, job.epochs, notes, accuracies, stored=in_float)
