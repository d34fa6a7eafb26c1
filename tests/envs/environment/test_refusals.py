"""What an environment refuses, and what an episode says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from secateur.envs import FilterPruningEnv, PruningProblem
from secateur.envs.cost.counts import smallest_ratio
from secateur.rewards import TargetRange, TargetReward


def test_problems_slots_and_render_modes_are_checked(problem: PruningProblem) -> None:
    with pytest.raises(TypeError, match="a problem is DemoNet; give PruningProblem"):
        FilterPruningEnv(problem.model)
    with pytest.raises(ValueError, match="slots is 100; allowed is at least 1"):
        FilterPruningEnv(problem, slots="100")
    with pytest.raises(ValueError, match="there is no render mode 'ansi'; give rgb_array, or None"):
        FilterPruningEnv(problem, render_mode="ansi")


def finished(problem: PruningProblem, reward: Any) -> dict[str, Any]:
    env = FilterPruningEnv(problem, reward)
    env.reset(seed=0)
    while True:
        _, _, done, _, info = env.step(np.ones(env.slots))
        if done:
            return info


@pytest.mark.parametrize("given", [None, "3", [1.0, 2.0]])
def test_a_reward_that_is_no_number_is_named(problem: PruningProblem, given: Any) -> None:
    with pytest.raises(TypeError, match=r"the reward is \w+; give a function that returns a number"):
        finished(problem, lambda _: given)


def test_a_reward_beyond_float32_is_none_to_learn_from(problem: PruningProblem) -> None:
    with pytest.raises(FloatingPointError, match=r"the reward of a candidate of demo is 1e\+300"):
        finished(problem, lambda _: 1e300)


def test_what_an_episode_says_can_be_kept(problem: PruningProblem) -> None:
    info = finished(problem, TargetReward())
    masks = info.pop("masks")
    assert json.loads(json.dumps(info)) == info
    masks[0][:] = False
    assert all(mask.all() for mask in finished(problem, TargetReward())["masks"])


def test_drawn_targets_are_those_that_a_network_can_reach(problem: PruningProblem) -> None:
    smallest = smallest_ratio(problem.network, "macs")
    env = FilterPruningEnv(problem, TargetRange(smallest / 4, smallest * 2))
    targets = []
    for seed in range(30):
        env.reset(seed=seed)
        targets.append(env._running().reward.target)
    assert smallest <= min(targets) < max(targets) <= smallest * 2
