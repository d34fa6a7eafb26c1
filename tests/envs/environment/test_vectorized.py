"""Episodes in lock-step equal single ones.

Shapes: K episodes, M slots.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from stable_baselines3.common.vec_env import DummyVecEnv

from secateur.envs import FilterPruningEnv, LockstepVecEnv, PruningProblem
from secateur.envs.problem.features import LAYER_FEATURES, STATIC_LAYER_FEATURES
from secateur.rewards import Reward, TargetRange, TargetReward


def assert_same(one: Any, other: Any) -> None:
    assert set(one) == set(other)
    for key in one:
        assert one[key].dtype == other[key].dtype, key
        np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize(
    ("networks", "reward"), [(1, TargetReward(0.5)), (2, TargetReward(0.5)), (2, TargetRange(0.2, 0.9))]
)
def test_episodes_in_lock_step_equal_single_ones_step_by_step(
    problem: PruningProblem, plain_problem: PruningProblem, networks: int, reward: Reward | TargetRange
) -> None:
    problems, k = [problem, plain_problem][:networks], 3
    together = LockstepVecEnv(problems, reward, k)
    alone = DummyVecEnv([lambda: FilterPruningEnv(problems, reward) for _ in range(k)])
    for vectorized in (together, alone):
        vectorized.seed(5)
    assert_same(together.reset(), alone.reset())
    assert together.reset_infos == alone.reset_infos
    drawn = np.random.default_rng(0)
    seen_dones = 0
    for _ in range(15):
        actions = (drawn.random((k, together.slots)) < 0.6).astype(np.int8)
        mine, rewards, dones, infos = together.step(actions)
        theirs, their_rewards, their_dones, their_infos = alone.step(actions)
        assert_same(mine, theirs)
        np.testing.assert_array_equal(rewards, their_rewards)
        np.testing.assert_array_equal(dones, their_dones)
        for info, their_info, done in zip(infos, their_infos, dones, strict=True):
            assert ("masks" in info) == ("terminal_observation" in info) == done
            their_info.setdefault("TimeLimit.truncated", False)
            info.setdefault("TimeLimit.truncated", False)
            assert data_equivalence(info, their_info, exact=True)
        seen_dones += int(dones.sum())
    assert seen_dones >= 2 * k


def test_observations_in_lock_step_are_fresh_arrays(problem: PruningProblem) -> None:
    together = LockstepVecEnv([problem], TargetReward(), 2)
    first = together.reset()
    kept = copy.deepcopy(first)
    together.step(np.ones((2, together.slots)))
    assert_same(first, kept)  # SB3 stores them one step late


def test_the_masks_that_lock_step_reports_are_those_that_were_measured(problem: PruningProblem) -> None:
    together = LockstepVecEnv([problem], TargetReward(), 1)
    together.reset()
    for action in np.random.default_rng(0).random((len(problem.network.layers), together.slots)) < 0.7:
        _, _, _, infos = together.step(action[None])
    masks = infos[0]["masks"]
    assert [float(mask.mean()) for mask in masks] == list(infos[0]["layer_keep_ratios"].values())
    assert problem.evaluator([masks])[0].accuracy == infos[0]["accuracy"]


def test_each_episode_draws_its_target_and_sees_it(problem: PruningProblem) -> None:
    together = LockstepVecEnv([problem], TargetRange(0.3, 0.6), 40)
    together.seed(0)
    targets = together.reset()["layer"][:, LAYER_FEATURES.index("target")]
    assert targets.min() >= 0.3
    assert targets.max() <= 0.6
    assert len(np.unique(targets)) == 40
    assert abs(float(targets.mean()) - 0.45) < 0.05


def test_each_episode_hides_some_static_features_of_layers_and_nothing_else(problem: PruningProblem) -> None:
    plain, hiding = (
        LockstepVecEnv([problem], TargetReward(0.5), 200, hidden_features=share) for share in (0.0, 0.25)
    )
    static = len(STATIC_LAYER_FEATURES)
    action = np.ones((200, plain.slots), np.int8)
    seen = []
    for environment in (plain, hiding):
        environment.seed(0)
        first = environment.reset()
        second, *_ = environment.step(action)
        seen.append((first, second))
    hidden = []
    for shown, partly in zip(*seen, strict=True):
        np.testing.assert_array_equal(shown["filters"], partly["filters"])
        np.testing.assert_array_equal(shown["layer"][:, static:], partly["layer"][:, static:])
        told = shown["layer"][:, :static] != 0
        hidden.append(told & (partly["layer"][:, :static] == 0))
        np.testing.assert_array_equal(partly["layer"][:, :static], shown["layer"][:, :static] * ~hidden[-1])
        assert abs(hidden[-1].sum() / told.sum() - 0.25) < 0.05
        assert len(np.unique(hidden[-1], axis=0)) > 10
    both = (seen[0][0]["layer"][:, :static] != 0) & (seen[0][1]["layer"][:, :static] != 0)
    np.testing.assert_array_equal(hidden[0][both], hidden[1][both])  # for the whole of an episode


def test_episodes_of_a_group_share_network_and_target_and_are_compared_with_each_other(
    problem: PruningProblem, plain_problem: PruningProblem
) -> None:
    together = LockstepVecEnv([problem, plain_problem], TargetRange(0.2, 0.9), 12, group=4)
    together.seed(0)
    together.reset()
    drawn = np.random.default_rng(0)
    finished = 0
    shared = set()
    for _ in range(20):
        groups = [together._episodes[k : k + 4] for k in range(0, 12, 4)]
        for group in groups:
            assert len({(episode.problem.name, episode.reward.target) for episode in group}) == 1
        shared |= {(group[0].problem.name, group[0].reward.target) for group in groups}
        actions = (drawn.random((12, together.slots)) < 0.6).astype(np.int8)
        _, rewards, dones, infos = together.step(actions)
        for first in range(0, 12, 4):
            own, ends = rewards[first : first + 4], dones[first : first + 4]
            assert ends.all() or not ends.any()
            if ends.all():
                raw = np.array([infos[k]["reward"] for k in range(first, first + 4)])
                assert own.sum() == pytest.approx(0, abs=1e-5)
                assert np.argsort(own).tolist() == np.argsort(raw).tolist()
                assert 0.5 < own.std() < 1
                finished += 1
            else:
                assert not own.any()
    assert finished > 4
    assert len(shared) > 3


def test_a_group_has_to_divide_the_episodes(problem: PruningProblem) -> None:
    with pytest.raises(ValueError, match="a group is 3 episodes; give a divisor of all 8"):
        LockstepVecEnv([problem], TargetReward(), 8, group=3)


def test_a_wrong_action_of_one_episode_lets_none_go_on(problem: PruningProblem) -> None:
    together = LockstepVecEnv([problem], TargetReward(), 2)
    before = together.reset()
    good = np.ones(together.slots)
    for actions in ([good], [good, good[:3]], [good, good * np.nan], [good, good * 5], [good, -good]):
        with pytest.raises(ValueError, match="action"):
            together.step(actions)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="the action holds complex128"):
        together.step(np.stack([good, 1j * good]))
    after, _, _, _ = together.step(np.stack([good, good]))
    assert (before["position"] == 0).all()
    assert (after["position"] == 1).all()


def test_settings_out_of_their_range_are_refused(problem: PruningProblem) -> None:
    for share in (-1, 2, float("nan")):
        with pytest.raises(ValueError, match="hidden_features is"):
            LockstepVecEnv([problem], TargetReward(), 2, hidden_features=share)
    for count in (0, -1):
        with pytest.raises(ValueError, match="num_envs is"):
            LockstepVecEnv([problem], TargetReward(), count)
    with pytest.raises(TypeError, match="a problem is str; give PruningProblem"):
        LockstepVecEnv([problem, "digits"], TargetReward(), 2)  # type: ignore[list-item]
