"""Gradual pruning of filters: the size falls by the schedule, and what was masked is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from secateur.agent.deciders.base import Budget
from secateur.agent.deciders.baselines import Baseline
from secateur.agent.systems import gradual_filters, masked_filters
from secateur.agent.systems.base import Job
from secateur.agent.systems.filter_ranking import highest_ranked, macs_ratio
from secateur.agent.systems.gradual_filters import GradualFilters
from secateur.agent.systems.masked_filters import Stages, dense_with_masks
from secateur.envs.modules.copying import replica
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.sparsity.filters import kept_filters
from secateur.envs.surgery.plan import Mask, PruningPlan
from support.pruning_jobs import job_of, same


def test_the_size_falls_as_the_cubic_schedule_says(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[float] = []
    mask_filters = gradual_filters.mask_filters

    def noted(model: nn.Module, job: Job, kept: list[Mask]) -> None:
        sizes.append(macs_ratio(job.network, kept))
        mask_filters(model, job, kept)

    monkeypatch.setattr(gradual_filters, "mask_filters", noted)
    job = job_of(problem, 0.4, epochs=3)
    result = GradualFilters()(job)
    stages = Stages.of(job)
    assert stages.updates.interval == 1
    assert len(sizes) == result.details["updates"] == stages.end > 5
    expected = [1 - 0.6 * (1 - (1 - step / stages.end) ** 3) for step in range(1, stages.end + 1)]
    assert all(0 <= most - size < 0.02 for most, size in zip(expected, sizes, strict=True))
    assert expected[-1] == pytest.approx(0.4)


def test_the_result_is_smaller_and_its_plan_is_what_was_masked(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_networks: list[tuple[nn.Module, nn.Module]] = []
    cut = masked_filters.cut

    def noted(model: nn.Module, network: object, plan: PruningPlan) -> nn.Module:
        cut_networks.append((replica(model), cut(model, problem.network, plan)))
        return cut_networks[-1][1]

    monkeypatch.setattr(masked_filters, "cut", noted)
    result = GradualFilters()(job_of(problem, 0.4))
    ((masked, smaller),) = cut_networks
    assert result.plan is not None
    assert result.model is smaller
    assert 0.38 < macs_ratio(problem.network, result.plan.masks(problem.network)) <= 0.4
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in masked.parameters())
    assert result.epochs == 2


def test_without_training_it_is_the_heuristic_that_ranks(problem: PruningProblem) -> None:
    result = GradualFilters()(job_of(problem, 0.5, epochs=0))
    (expected,) = Baseline.from_name("fpgm-global").decide(problem, 0.5, "macs")
    assert result.plan is not None
    assert PruningPlan.from_masks(problem.network, expected).kept == result.plan.kept
    assert result.epochs == 0


def test_what_was_removed_ranks_behind_what_is_there(problem: PruningProblem) -> None:
    model = dense_with_masks(job_of(problem, 0.5))
    kept = [np.ones(layer.filters, np.bool_) for layer in problem.network.layers]
    kept[0][:5] = False
    budget = Budget(problem.network, macs_ratio(problem.network, kept), "macs")
    found = highest_ranked(model, problem.model, budget, kept)
    assert not found[0][:5].any()
    assert all(mask.all() for mask in found[1:])
    assert all(mask.all() for mask in kept_filters(model, problem.network))


def test_a_size_that_cannot_be_reached_is_refused_before_training(problem: PruningProblem) -> None:
    torch.manual_seed(0)
    before = replica(problem.model)
    for target in (1e-4, 0.0):
        with pytest.raises(ValueError, match="target"):
            GradualFilters()(job_of(problem, target, epochs=10**6))
    assert same(problem.model, before)
