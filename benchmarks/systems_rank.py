"""What layers of low rank and small dense networks promise, for ``systems.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from secateur.agent.procedures.config import PruningConfig
from secateur.agent.systems.base import Job
from secateur.agent.systems.rank import Rank, cut_filters
from secateur.agent.systems.small_dense import SmallDense
from secateur.agent.systems.training import train_stage
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import measure

if TYPE_CHECKING:
    from systems import Bench

RANK_TARGETS: Mapping[str, tuple[float, ...]] = {"demo": (0.7, 0.5, 0.3), "lenet300": (0.3, 0.1)}
"""Shares of the MACs, by network."""

RANK_EPOCHS: Mapping[str, int] = {"demo": 10, "lenet300": 2}
"""Passes after a cut, by network."""

SMALL_EPOCHS: Mapping[tuple[str, float], int] = {("demo", 0.3): 30, ("demo", 0.05): 30, ("lenet300", 0.1): 4}
"""Passes in all, by network and share of its MACs."""


def rank(bench: Bench, seed: int) -> dict[str, float]:
    """Compare low rank, filters, and both at the same MACs, before and after the same passes.

    Returns:
        Accuracies on test, percent.
    """
    found = {}
    for name, epochs in RANK_EPOCHS.items():
        dense = job_of(bench, name, 1.0, epochs, seed)
        found[f"{name} dense"] = on_test(dense, dense.model)
        for target in RANK_TARGETS[name]:
            for passes, when in ((0, "before"), (epochs, "after")):
                job = job_of(bench, name, target, passes, seed)
                networks = {
                    "rank": Rank()(job).model,
                    "rank of weights alone": Rank()(without_images(job)).model,
                    "filters": pruned(job),
                    "filters and rank": Rank(filters="fpgm-global")(job).model,
                }
                for label, model in networks.items():
                    found[f"{name} {target:.0%} {label} {when}"] = on_test(job, model)
    return found


def distillation(bench: Bench, seed: int) -> dict[str, float]:
    """Compare a small dense network without and with a teacher, and a large one that was pruned.

    Returns:
        Accuracies on test, percent, at the same MACs after the same passes.
    """
    found = {}
    for (name, target), epochs in SMALL_EPOCHS.items():
        job = job_of(bench, name, target, epochs, seed)
        networks = {
            "small, untaught": SmallDense(taught=False)(job).model,
            "small, taught": SmallDense(taught=True)(job).model,
            "large, pruned": pruned(job),
        }
        for label, model in networks.items():
            found[f"{name} {target:.0%} {label}"] = on_test(job, model)
    return found


def pruned(job: Job) -> nn.Module:
    """Cut filters by ``fpgm-global``, and train with the dense network as teacher."""
    model, _ = cut_filters(job, "fpgm-global", job.target)
    train_stage(job, model, job.epochs, "recovery")
    return model


def job_of(bench: Bench, name: str, target: float, epochs: int, seed: int) -> Job:
    """Return a job for a dense network of the benchmark."""
    model, task = bench.dense(name, seed), bench.task_of(name)
    network = trace_exactly(model, torch.zeros(2, *task.input_shape))
    config = PruningConfig(method="fpgm-global", epochs=epochs, seed=seed)
    return Job(name, model, task, network, target, config)


def without_images(job: Job) -> Job:
    """Return the job with directions of low rank from the weights alone, not from outputs of images."""
    return replace(job, config=replace(job.config, compensation_images=0))


def on_test(job: Job, model: nn.Module) -> float:
    """Return the accuracy on test, percent."""
    return round(measure(model, job.task, "test").accuracy, 3)


CLAIMS = {"rank": rank, "distillation": distillation}
"""The claims of this file, by name."""
