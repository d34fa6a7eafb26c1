"""The training that all systems share: stages of the recipe, each resumed from a checkpoint of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import accumulate, pairwise
from typing import Any

from torch import nn

from ...envs.modules.precision import precision_on
from ...envs.recovery.batching import Batching
from ...envs.recovery.batchnorm import reestimate_batchnorm
from ...envs.recovery.callbacks import Callback, Callbacks
from ...envs.recovery.config import RecoveryConfig
from ...envs.recovery.finetuning import finetune
from ..procedures.short_recovery import shortened, steps_of
from ..run.recovery_monitor import RecoveryMonitor
from .base import Job


def train_stage(
    job: Job,
    model: nn.Module,
    epochs: float,
    name: str,
    *,
    on_step: Callback | None = None,
    taught: bool = True,
    from_scratch: bool = False,
) -> None:
    """Train a network in place for a part of the job's passes, and re-estimate batch-norm statistics.

    The learning rate takes its whole course, from the high rate of the recipe to zero, in each stage (Renda
    et al. 2020, arXiv 2003.02389). A stage that an earlier process of the run has finished is read back. So a
    system that is run again, and does the same between its stages, goes on where it was stopped.

    Args:
        job: The job, with the recipe, the data and the folder.
        model: The network; masks that ``on_step`` changes are part of the checkpoint.
        epochs: Passes over the training images, at least 0; parts of them are allowed.
        name: Name of the stage, for its checkpoint, the progress bar and TensorBoard; no two are alike.
        on_step: Called after every step.
        taught: Whether the dense network is the teacher, with the weight that the job's options give it.
        from_scratch: Whether the weights are random or nearly so; see :func:`stage_config`.
    """
    config = stage_config(job.config.recovery, taught=taught, from_scratch=from_scratch)
    if steps := steps_of_stage(job, epochs):
        with RecoveryMonitor(job.task, job.folder, prefix=name, callbacks=Callbacks(on_step)) as monitor:
            finetune(
                model,
                job.task,
                config,
                teacher=job.model,
                seed=job.config.seed,
                steps=steps,
                checkpoint=job.folder.checkpoint(name) if job.folder else None,
                val_images=monitor.val_images,
                on_step=monitor.on_step,
                on_epoch=monitor.on_epoch,
            )
    reestimate_batchnorm(model, job.task, images=config.batchnorm_images, seed=job.config.seed)
    model.eval()


def stage_config(given: RecoveryConfig, *, taught: bool = True, from_scratch: bool = False) -> RecoveryConfig:
    """Return the settings of the stages of a job.

    Args:
        given: The settings of the job.
        taught: Whether the dense network is the teacher.
        from_scratch: Whether the weights are random or nearly so: then the learning rate is that of
            :meth:`.RecoveryConfig.from_scratch`, unless the job has one, or another optimiser.
    """
    config = shortened(given)
    if not taught:
        config = replace(config, distillation_weight=0.0)
    if from_scratch and given.learning_rate is None and given.optimiser == "sgd":
        config = replace(config, learning_rate=RecoveryConfig.from_scratch().learning_rate)
    return config


def recipe_details(
    given: RecoveryConfig, model: nn.Module, *, taught: bool = True, from_scratch: bool = False
) -> dict[str, Any]:
    """Return the settings of the stages for the report.

    Args:
        given: The options of the recovery.
        model: A network on the device that trains.
        taught: As for :func:`stage_config`.
        from_scratch: As for :func:`stage_config`.
    """
    config = stage_config(given, taught=taught, from_scratch=from_scratch)
    precision = precision_on(next(model.parameters()).device, config.precision)
    settings = {**asdict(config), **asdict(config.recipe)}
    return {**settings, "epochs": given.recipe.epochs, "precision": precision}


def share_passes(job: Job, shares: Sequence[float]) -> list[float]:
    """Return the passes of each stage of a job: whole steps, and in sum the job's.

    Each stage has at least one step. If there are fewer steps than stages, the last ones have them.

    Args:
        job: The job, with the passes of all stages.
        shares: Share of each stage, whose sum is 1.
    """
    steps = steps_of_stage(job, job.epochs)
    ends = [0]
    for number, share in enumerate(accumulate(shares), start=1):
        later = len(shares) - number
        least = ends[-1] + (steps > later)
        ends.append(max(least, min(round(share * steps), steps - later)))
    per_pass = Batching.of(job.task, job.config.recovery).steps
    return [(end - start) / per_pass for start, end in pairwise(ends)]


def steps_of_stage(job: Job, epochs: float) -> int:
    """Return the steps of :func:`train_stage`: at least one, unless there are no passes."""
    return steps_of(epochs, job.task, job.config.recovery)
