"""Dynamic pruning: what was removed comes back, is counted, and the size is exact in the end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from secateur.agent.deciders.base import Budget
from secateur.agent.systems import dynamic
from secateur.agent.systems.dynamic import Dynamic
from secateur.agent.systems.dynamic_filters import DynamicFilters
from secateur.agent.systems.filter_policy import FilterPolicy, returned
from secateur.agent.systems.filter_ranking import layer_scores, macs_ratio
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.sparsity import keep_masks, magnitude_masks
from secateur.envs.surgery.plan import Mask
from support.pruning_jobs import job_of


def test_weights_that_came_back_are_counted_and_the_size_is_met_exactly(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    came_back: list[int] = []
    gone: dict[str, torch.Tensor] = {}
    splice = dynamic.splice

    def noted(model: nn.Module, share: float, **limits: float) -> int:
        came_back.append(splice(model, share, **limits))
        for name, mask in keep_masks(model).items():
            gone[name] = gone.get(name, torch.zeros_like(mask)) | ~mask
        return came_back[-1]

    monkeypatch.setattr(dynamic, "splice", noted)
    monkeypatch.setattr(dynamic, "_MOST", 0.05)
    result = Dynamic()(job_of(problem, 0.05, epochs=4))
    masks = keep_masks(result.model)
    weights = sum(mask.numel() for mask in masks.values())
    assert sum(int(mask.sum()) for mask in masks.values()) == round(0.05 * weights)
    assert result.details["returns"] == sum(came_back) > 0
    assert result.details["revisions"] == len(came_back)
    stayed = sum(int((mask & gone[name]).sum()) for name, mask in masks.items())
    assert 0 < result.details["returned_and_stayed"] == stayed <= sum(came_back)


def test_without_training_it_is_magnitude_in_one_shot(problem: PruningProblem) -> None:
    masks = keep_masks(Dynamic()(job_of(problem, 0.1, epochs=0)).model)
    expected = magnitude_masks(problem.model, 0.1)
    assert all(torch.equal(mask, expected[name]) for name, mask in masks.items())


def test_what_a_network_carried_is_gone_in_the_end(problem: PruningProblem) -> None:
    before = {name.removesuffix("_orig") for name in problem.model.state_dict()}
    for system, target in ((Dynamic(), 0.2), (DynamicFilters(), 0.5)):
        result = system(job_of(problem, target, epochs=1))
        names = {name for name in result.model.state_dict() if not name.endswith("_mask")}
        assert {name.removesuffix("_orig") for name in names} == before


def test_removed_weights_learn_only_until_the_training_is_over(problem: PruningProblem) -> None:
    model = Dynamic()(job_of(problem, 0.2, epochs=1)).model
    model.zero_grad()
    model(torch.randn(4, 1, 8, 8)).square().sum().backward()
    mask, weight = keep_masks(model)["stem.0.weight"], model.get_parameter("stem.0.weight_orig")
    assert weight.grad is not None
    assert (weight.grad[~mask] == 0).all()


def test_filters_that_came_back_are_counted_and_the_size_is_met(problem: PruningProblem) -> None:
    result = DynamicFilters()(job_of(problem, 0.4))
    assert result.plan is not None
    kept = result.plan.masks(problem.network)
    assert 0.38 < macs_ratio(problem.network, kept) <= 0.4
    first = FilterPolicy(layer_scores(problem.model, problem.network), 0).decide(
        Budget(problem.network, 0.4, "macs")
    )
    assert result.details["kept_that_were_removed_at_first"] == returned(first, kept)
    assert result.details["returns"] > 0
    assert result.details["draws"] > 0


def same_masks(one: list[Mask], other: list[Mask]) -> bool:
    return all(bool((a == b).all()) for a, b in zip(one, other, strict=True))


def policy_of(problem: PruningProblem, seed: int = 0) -> FilterPolicy:
    return FilterPolicy(layer_scores(problem.model, problem.network), seed)


def test_a_policy_draws_the_same_for_a_seed_and_a_step(problem: PruningProblem) -> None:
    budget = Budget(problem.network, 0.5, "macs")
    one, again, other = policy_of(problem), policy_of(problem), policy_of(problem, seed=1)
    assert same_masks(one.draw(budget, 3), again.draw(budget, 3))
    for different in (one.draw(budget, 4), one.draw(budget, 3, -1), other.draw(budget, 3)):
        assert not same_masks(one.draw(budget, 3), different)


def test_a_policy_learns_which_layer_to_spare(problem: PruningProblem) -> None:
    """Its reward is the share of one layer's filters that stay; the size is always the same."""
    budget, policy = Budget(problem.network, 0.5, "macs"), policy_of(problem)
    chosen = int(np.argmin([mask.mean() for mask in policy.decide(budget)]))
    before = policy.decide(budget)[chosen].mean()
    for step in range(60):
        losses = [-float(policy.draw(budget, step, sign)[chosen].mean()) for sign in (1, -1)]
        policy.learn(step, *losses)
    assert policy.decide(budget)[chosen].mean() > before + 0.1
    assert 0.45 < macs_ratio(problem.network, policy.decide(budget)) <= 0.5


def test_a_policy_whose_draws_are_equally_good_stays_as_it_is(problem: PruningProblem) -> None:
    policy = policy_of(problem)
    before = {name: tensor.clone() for name, tensor in policy.state.items()}
    for step in range(5):
        policy.learn(step, 1.0, 1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state.items())
