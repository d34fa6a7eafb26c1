"""What lottery tickets, dynamic pruning and gradual pruning of filters promise; see ``systems.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from secateur.agent.procedures.config import PruningConfig
from secateur.agent.systems.base import Job
from secateur.agent.systems.tickets import Lottery
from secateur.agent.systems.training import train_stage
from secateur.envs.sparsity import apply_masks, keep_masks
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import measure

if TYPE_CHECKING:
    from systems import Bench

SPLIT = "test"

LENET: dict[str, Any] = {
    "optimiser": "adamw",
    "learning_rate": 1.2e-3,
    "weight_decay": 0.0,
    "distillation_weight": 0.0,
    "precision": "fp32",
}


def lottery(bench: Bench, seed: int) -> dict[str, float]:
    """Measure tickets of LeNet-300-100 against the same masks with new random weights, and dense.

    All three train for the same number of passes. Accuracies in percent of test.
    """
    found = {}
    for share in (0.2, 0.04):
        job = job_of(bench, "lenet300", seed, share, epochs=24, **LENET)
        result = Lottery()(job)
        epochs = result.details["epochs_of_ticket"]
        other = bench.untrained("lenet300", seed + 100)
        apply_masks(other, keep_masks(result.model))
        train_stage(job, other, epochs, "reinitialised")
        found[f"ticket at {share:.0%}"] = accuracy(job, result.model)
        found[f"reinitialised at {share:.0%}"] = accuracy(job, other)
    dense = bench.untrained("lenet300", seed)
    train_stage(job, dense, epochs, "dense")
    found["dense"] = accuracy(job, dense)
    return found


def job_of(bench: Bench, name: str, seed: int, target: float, epochs: int, **options: Any) -> Job:
    """Return the job of a system for a network of the bench."""
    model, task = bench.dense(name, seed), bench.task_of(name)
    network = trace_exactly(model, torch.zeros(2, *task.input_shape))
    return Job(name, model, task, network, target, PruningConfig(epochs=epochs, seed=seed, **options))


def accuracy(job: Job, model: nn.Module) -> float:
    """Measure a network, percent of test."""
    return measure(model, job.task, SPLIT).accuracy
