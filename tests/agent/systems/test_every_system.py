"""What every system of pruning promises, whatever it removes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from secateur.agent.deciders.names import BASELINES
from secateur.agent.systems.base import Job, Kind, Result, System
from secateur.agent.systems.registry import DENSE_SIZED, SYSTEMS
from secateur.envs.modules.copying import replica
from secateur.envs.modules.modes import restored_modes
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.quantization.fake import quantized_layers
from secateur.envs.recovery import finetuning
from secateur.envs.sparsity import remove_masks, sparsity
from secateur.envs.surgery.cutting import load_pruned, save_pruned
from support.promises import macs_of, outputs
from support.pruning_jobs import DIGIT, STEPS, job_of, same

TARGETS = {"blocks": 0.7}
"""Share of the MACs or weights that stays, where blocks alone cannot halve the demo network; 0.5 else."""

TWICE = ("random-weights", "small-dense")
"""Systems that run twice; others are compared with themselves where they are stopped and resumed."""

ALIKE = {*BASELINES, "agent-blocks", "agent-int8", "fpgm-int8"} - {"fpgm-global"}
"""Systems that differ from another by the ranking of filters, or put two others together."""


@dataclass(frozen=True)
class Done:
    """A system's job and result, the steps of its trainings, and a copy of the dense network before."""

    name: str
    system: System
    job: Job
    result: Result
    steps: int
    before: nn.Module


def job_for(name: str, problem: PruningProblem) -> Job:
    return job_of(problem, TARGETS.get(name, 0.5), effort="quick", search_images=32, compensation_images=64)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] if name in ALIKE else []) for name in SYSTEMS],
)
def done(request: pytest.FixtureRequest, problem: PruningProblem) -> Done:
    name = request.param
    job = job_for(name, problem)
    before = replica(job.model)
    with pytest.MonkeyPatch.context() as patch:
        take_step = Mock(side_effect=finetuning._take_step)
        patch.setattr(finetuning, "_take_step", take_step)
        result = SYSTEMS[name](job)
    return Done(name, SYSTEMS[name], job, result, take_step.call_count, before)


def test_it_says_what_it_removes(done: Done) -> None:
    assert done.system.kind in get_args(Kind)
    assert all(note.endswith(".") for note in done.result.notes)


def test_it_says_how_long_it_trained_and_that_is_no_longer_than_allowed(done: Done) -> None:
    assert done.result.epochs == pytest.approx(done.steps / STEPS)
    assert 0 < done.result.epochs <= done.job.epochs


def test_the_dense_network_is_not_changed(done: Done) -> None:
    assert same(done.job.model, done.before)
    modes = ([module.training for module in model.modules()] for model in (done.job.model, done.before))
    assert next(modes) == next(modes)


def test_the_network_ships_in_evaluation_mode_and_answers_as_the_task_needs_it(done: Done) -> None:
    model = done.result.model
    assert model is not done.job.model
    assert not any(module.training for module in model.modules())
    (found,) = outputs(model, (torch.rand(3, 1, 8, 8),))
    assert found.shape == (3, 10)
    assert found.isfinite().all()


def test_the_target_is_met_as_the_kind_counts_it(done: Done) -> None:
    model, target = done.result.model, 1.0 if done.name in DENSE_SIZED else done.job.target
    if done.system.kind == "weights":
        slack = 0.01 if done.name == "two-of-four" else 1e-4  # layers without groups of four stay whole
        assert 1 - sparsity(model) <= target + slack
    with restored_modes(done.job.model):
        ratio = macs_of(model, DIGIT) / macs_of(done.job.model, DIGIT)
    if done.system.kind == "weights" or done.name in DENSE_SIZED:
        assert ratio == 1
    else:
        assert ratio <= target
    assert bool(quantized_layers(model)) is (done.system.kind == "int8")


def test_its_plan_and_weights_rebuild_what_it_stores(done: Done, tmp_path: Path) -> None:
    result = done.result
    stored = remove_masks(replica(result.model if result.stored is None else result.stored))
    assert result.plan is not None
    save_pruned(stored, result.plan, tmp_path)
    loaded = load_pruned(lambda: replica(done.job.model), tmp_path)
    images, _ = done.job.task.batch("val", torch.arange(4))
    (expected,), (found,) = outputs(stored, (images,)), outputs(loaded, (images,))
    assert torch.equal(expected, found)
    if result.stored is None:
        assert torch.equal(expected, *outputs(result.model, (images,)))


@pytest.mark.parametrize("name", TWICE)
def test_a_seed_gives_the_same_network(name: str, problem: PruningProblem) -> None:
    one, other = (SYSTEMS[name](job_for(name, problem)) for _ in range(2))
    assert same(one.model, other.model)
    assert one.plan == other.plan
