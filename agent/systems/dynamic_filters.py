"""Dynamic pruning of filters: a policy keeps drawing masks while the weights train, then it settles.

All draws share the weights. The size falls by the cubic schedule of Zhu and Gupta 2017, arXiv 1710.01878,
eq. 1. The two draws of a step are measured on the same images of val, by their loss, with the batch-norm
statistics of these images.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...envs.modules.modes import restored_modes
from ...envs.recovery.callbacks import Progress
from ...envs.surgery.plan import Mask
from ...envs.tasks import Task
from ...envs.tasks.network_loss import measured_loss
from ...envs.tasks.optional_members import measuring_batch
from .base import Job, Kind, Result
from .carried import carried
from .filter_policy import FilterPolicy, returned
from .filter_ranking import layer_scores, macs_ratio
from .masked_filters import Stages, cut_and_train, dense_with_masks, mask_filters
from .training import train_stage

_IMAGES = 128
"""Images of val on which each draw is measured: two draws take about two thirds of the time of a training
step with as many images."""


@dataclass(frozen=True)
class DynamicFilters:
    """Let a policy choose the filters while the network trains; then cut, and train on."""

    kind: ClassVar[Kind] = "filters"

    def __call__(self, job: Job) -> Result:
        """Train under drawn masks, settle, cut, train; see :class:`.base.System`."""
        network, stages = job.network, Stages.of(job)
        final = stages.budget(job, stages.end)
        policy = FilterPolicy(layer_scores(job.model, network), job.config.seed)
        first = policy.decide(final)
        model = dense_with_masks(job)
        every = torch.ones(int(network.widths.sum()), dtype=torch.bool)
        returns = torch.zeros((), dtype=torch.int64)
        with carried(model, preferred=every, returns=returns, **policy.state) as numbers:
            policy.state = numbers

            def on_step(progress: Progress) -> None:
                step = progress.finished_steps
                if step > stages.settled:
                    return
                budget = stages.budget(job, step)
                draws = [policy.draw(budget, step, sign) for sign in (1, -1)]
                losses = [_loss(model, job, masks, step) for masks in draws]
                policy.learn(step, *losses)
                preferred = policy.decide(budget)
                before = np.split(numbers["preferred"].cpu().numpy(), np.cumsum(network.widths)[:-1])
                numbers["returns"] += returned(before, preferred)
                numbers["preferred"].copy_(torch.from_numpy(np.concatenate(preferred)))
                better = draws[int(losses[1] < losses[0])]
                mask_filters(model, job, preferred if step == stages.settled else better)

            train_stage(job, model, stages.masked, "masked", on_step=on_step)
            kept, came_back = policy.decide(final), int(numbers["returns"])
        smaller, plan = cut_and_train(job, model, kept, stages.cut)
        details = {
            "masked_epochs": stages.masked,
            "draws": 2 * stages.settled,
            "val_images_measured": 2 * stages.settled * _images(job.task),
            "returns": came_back,
            "kept_that_were_removed_at_first": returned(first, kept),
            "macs_ratio": macs_ratio(network, kept),
        }
        return Result(smaller, plan, job.epochs, (), details)


@torch.no_grad()
def _loss(model: nn.Module, job: Job, masks: Sequence[Mask], step: int) -> float:
    """Return the loss on a batch of val, the same one for all masks of a step; the masks stay set."""
    mask_filters(model, job, masks)
    generator = torch.Generator().manual_seed(step)
    chosen = torch.randperm(job.task.size("val"), generator=generator)[: _images(job.task)]
    inputs, targets = job.task.batch("val", chosen)
    with _batch_statistics(model):
        return float(measured_loss(job.task, model, inputs, targets))


def _images(task: Task) -> int:
    return min(measuring_batch(task, _IMAGES), task.size("val"))


@contextlib.contextmanager
def _batch_statistics(model: nn.Module) -> Iterator[None]:
    """Evaluate with the batch-norm statistics of each batch; running ones do not change."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    tracked = [layer.track_running_stats for layer in layers]
    with restored_modes(model):
        model.eval()
        try:
            for layer in layers:
                layer.train()
                layer.track_running_stats = False
            yield
        finally:
            for layer, before in zip(layers, tracked, strict=True):
                layer.track_running_stats = before
