"""What lottery tickets, dynamic pruning and gradual pruning of filters promise; see ``systems.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from secateur.agent.deciders.baselines import Baseline
from secateur.agent.procedures.config import PruningConfig
from secateur.agent.systems.base import Job
from secateur.agent.systems.masked_filters import cut_and_train, dense_with_masks
from secateur.agent.systems.registry import SYSTEMS
from secateur.agent.systems.training import train_stage
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.sparsity import apply_masks, keep_masks
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import measure

if TYPE_CHECKING:
    from systems import Bench

SPLIT = "test"
"""The data that all is measured on, which is read for the report alone."""

WEIGHT_SHARES = (0.02, 0.01)
FILTER_SHARES = (0.1, 0.03)
"""Sizes at which the digits, which are easy, tell systems apart."""

SHORT_EPOCHS = 4
"""Passes of the jobs on the digits."""

LOTTERY: dict[str, Any] = {"epochs": 20, "batch_size": 256, "distillation_weight": 0.0, "precision": "fp32"}
"""Options of the jobs of tickets; with no teacher, as in the paper."""


def lottery(bench: Bench, seed: int) -> dict[str, float]:
    """Measure tickets of LeNet-300-100 against the same masks with new random weights, and dense.

    All three train for the same number of passes. Accuracies in percent of test.
    """
    found = {}
    for share in (0.2, 0.04):
        job = job_of(bench, "lenet300", seed, share, **LOTTERY)
        result = SYSTEMS["lottery"](job)
        epochs = result.details["epochs_of_ticket"]
        other = bench.untrained("lenet300", seed + 100)
        apply_masks(other, keep_masks(result.model))
        train_stage(job, other, epochs, "reinitialised", from_scratch=True)
        found[f"ticket at {share:.0%}"] = accuracy(job, result.model)
        found[f"reinitialised at {share:.0%}"] = accuracy(job, other)
    dense = bench.untrained("lenet300", seed)
    train_stage(job, dense, epochs, "dense", from_scratch=True)
    found["dense"] = accuracy(job, dense)
    return found


def dynamic(bench: Bench, seed: int) -> dict[str, float]:
    """Measure masks that are revised against those that only shrink, or are fixed, after equal passes.

    The demo network on the digits. Accuracies in percent of test, sizes in shares of the weights.
    """
    found = {}
    for share in WEIGHT_SHARES:
        job = job_of(bench, "demo", seed, share, epochs=SHORT_EPOCHS, batch_size=32, distillation_weight=0.0)
        for name in ("dynamic", "gradual", "magnitude-global"):
            result = SYSTEMS[name](job)
            found[f"{name} at {share:.1%}"] = accuracy(job, result.model)
            if name == "dynamic":
                found[f"returns at {share:.1%}"] = float(result.details["returns"])
                found[f"returned and stayed at {share:.1%}"] = result.details["returned_and_stayed"]
    return found


def dynamic_filters(bench: Bench, seed: int) -> dict[str, float]:
    """Measure filters that are chosen while the network trains against cuts in one shot, after equal passes.

    The demo network on the digits. Accuracies in percent of test, sizes in shares of the MACs.
    """
    found = {}
    for share in FILTER_SHARES:
        job = job_of(bench, "demo", seed, share, epochs=SHORT_EPOCHS, batch_size=32)
        for name in ("dynamic-filters", "gradual-filters"):
            result = SYSTEMS[name](job)
            found[f"{name} at {share:.0%}"] = accuracy(job, result.model)
            if name == "dynamic-filters":
                found[f"filters that came back at {share:.0%}"] = float(result.details["returns"])
        for name in ("l2-uniform", "fpgm-global"):
            found[f"{name} at {share:.0%}"] = accuracy(job, one_shot(job, name))
    return found


def one_shot(job: Job, heuristic: str) -> nn.Module:
    """Cut by a heuristic, and train for all passes of the job."""
    problem = PruningProblem.build(
        job.name, job.model, job.task, network=job.network, images=64, compensation_images=0
    )
    (kept,) = Baseline.from_name(heuristic).decide(problem, job.target, "macs")
    smaller, _ = cut_and_train(job, dense_with_masks(job), kept, job.epochs)
    return smaller


def job_of(bench: Bench, name: str, seed: int, target: float, **options: Any) -> Job:
    """Return the job of a system for a network of the bench."""
    model, task = bench.dense(name, seed), bench.task_of(name)
    network = trace_exactly(model, torch.zeros(2, *task.input_shape))
    return Job(name, model, task, network, target, PruningConfig(seed=seed, **options))


def accuracy(job: Job, model: nn.Module) -> float:
    """Measure a network, percent of test."""
    return measure(model, job.task, SPLIT).accuracy


CLAIMS = {"lottery": lottery, "dynamic": dynamic, "dynamic-filters": dynamic_filters}
"""By name, for the table of ``systems.py``."""
