"""The whole job from Python."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.agent import PruningConfig, prune
from secateur.agent.deciders.baselines import Baseline
from secateur.agent.deciders.selection import choose
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.cutting import load_pruned, save_pruned
from secateur.envs.tasks import ClassificationTask
from secateur.rewards import TargetReward
from support.small import plain_network

BRIEF = PruningConfig(target_macs=0.5, evaluations=32, epochs=1, search_images=64)


def test_ones_own_network_is_pruned_in_ten_lines(digit_task: ClassificationTask, tmp_path: Path) -> None:
    model = plain_network()
    before = copy.deepcopy(model.state_dict())
    result = prune(model, digit_task, BRIEF)
    assert result.report["ratios"]["macs"] <= 0.5
    assert sum(p.numel() for p in result.model.parameters()) == result.report["pruned"]["params"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    save_pruned(result.model, result.plan, tmp_path)
    images, _ = digit_task.batch("test", torch.arange(8))
    again = load_pruned(plain_network, tmp_path)
    with torch.no_grad():
        assert torch.equal(again(images), result.model.eval()(images))


def test_the_same_seed_prunes_the_same_way(digit_task: ClassificationTask) -> None:
    one, other = (prune(plain_network(), digit_task, BRIEF) for _ in range(2))
    assert one.plan == other.plan
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_another_seed_searches_elsewhere(digit_task: ClassificationTask) -> None:
    one = prune(plain_network(), digit_task, BRIEF)
    other = prune(plain_network(), digit_task, dataclasses.replace(BRIEF, seed=1))
    assert one.report["search"]["rewards"] != other.report["search"]["rewards"]


def test_the_choice_is_the_best_proposal_on_val(problem: PruningProblem) -> None:
    choice = choose(problem, Baseline("l2", "global"), TargetReward(0.5))
    assert choice.outcome.macs_ratio <= 0.5
    assert choice.evaluations == 1


def test_a_network_without_prunable_filters_is_refused(digit_task: ClassificationTask) -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ValueError, match="no filter of model can be pruned"):
        prune(linear, digit_task, dataclasses.replace(BRIEF, target_macs=1.0))
