"""What the environment promises: Gymnasium's and SB3's contracts.

Shapes: M slots, N filters of a layer.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
import torch
from gymnasium.utils.env_checker import check_env, data_equivalence
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as check_env_as_sb3
from torch import nn

from secateur.envs import FilterPruningEnv, LockstepVecEnv, PruningProblem
from secateur.envs.cost.counts import cost
from secateur.envs.environment.rendering import KEPT, REMOVED, UNDECIDED, figure_of_layers
from secateur.envs.problem.features import FILTER_FEATURES, LAYER_FEATURES, LIMIT, STANDARDISED
from secateur.envs.tasks import ClassificationTask
from secateur.rewards import Reward, TargetReward, TryAndLearnReward
from support.small import plain_network

NAME = "secateur/FilterPruning-v0"
KEYS = {"network", "layer", "keep_ratio", "repaired", "macs_ratio", "params_ratio", "accuracy_drop"}
KEYS_AT_THE_END = KEYS | {"accuracy", "loss", "reward", "meets_target", "layer_keep_ratios", "masks"}

once_drawn = settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def actions_for(slots: int, steps: int, seed: int = 0, keep: float = 0.7) -> npt.NDArray[np.int8]:
    return (np.random.default_rng(seed).random((steps, slots)) < keep).astype(np.int8)


def walk(env: FilterPruningEnv, seed: int) -> list[Any]:
    """Give all that an episode returns; what it does follows the seed."""
    steps: list[Any] = [env.reset(seed=seed)]
    for action in actions_for(env.slots, 100, seed):
        steps.append(env.step(action))
        if steps[-1][2]:
            break
    return steps


@pytest.fixture
def env(problem: PruningProblem) -> FilterPruningEnv:
    return FilterPruningEnv(problem, render_mode="rgb_array")


@pytest.mark.parametrize("reward", [TargetReward(0.5), TryAndLearnReward(2.0, "filters")])
def test_gymnasium_and_sb3_find_nothing_to_complain_of(problem: PruningProblem, reward: Reward) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Box observations that are no images, says Gymnasium
        check_env(FilterPruningEnv(problem, reward), skip_render_check=True)
        check_env_as_sb3(FilterPruningEnv(problem, reward))


def test_it_is_registered_and_can_be_made_by_name(problem: PruningProblem) -> None:
    made = gymnasium.make(NAME, problems=problem, reward=TargetReward(0.3), render_mode="rgb_array")
    assert isinstance(made.unwrapped, FilterPruningEnv)
    assert made.unwrapped.reward == TargetReward(0.3)
    observation, info = made.reset(seed=1)
    assert made.observation_space.contains(observation)
    assert info == {"network": "demo"}


def test_the_same_seed_gives_the_same_episode(problem: PruningProblem, plain_problem: PruningProblem) -> None:
    one, other = (FilterPruningEnv([problem, plain_problem]) for _ in range(2))
    other.reset(seed=123)  # what came before does not matter
    for seed in (0, 1, 2):
        assert data_equivalence(walk(one, seed), walk(other, seed), exact=True)


def test_every_step_keeps_the_promises_about_info_rewards_and_the_end(env: FilterPruningEnv) -> None:
    first, *steps = walk(env, 0)
    layers = env.problems[0].network.layers
    assert first[1] == {"network": "demo"}
    assert [info["layer"] for *_, info in steps] == [layer.name for layer in layers]
    for observation, reward, terminated, truncated, info in steps[:-1]:
        assert set(info) == KEYS
        assert info["accuracy_drop"] is None
        assert (reward, terminated, truncated) == (0.0, False, False)
        assert env.observation_space.contains(observation)
    observation, reward, terminated, truncated, info = steps[-1]
    assert set(info) == KEYS_AT_THE_END
    assert (terminated, truncated) == (True, False)
    assert reward == info["reward"]
    assert isinstance(info["accuracy_drop"], float)
    assert list(info["layer_keep_ratios"]) == [layer.name for layer in layers]
    assert list(info["layer_keep_ratios"].values()) == [step[4]["keep_ratio"] for step in steps]
    assert [float(mask.mean()) for mask in info["masks"]] == [step[4]["keep_ratio"] for step in steps]
    assert not any(part.any() for part in observation.values())


def test_ratios_in_info_count_undecided_layers_dense(env: FilterPruningEnv) -> None:
    network = env.problems[0].network
    dense, counts = cost(network), network.widths.copy()
    env.reset(seed=0)
    for k, action in enumerate(actions_for(env.slots, len(counts))):
        counts[k] = action[: counts[k]].sum()
        info = env.step(action)[4]
        assert info["macs_ratio"] == pytest.approx(cost(network, counts).macs / dense.macs)
        assert info["params_ratio"] == pytest.approx(cost(network, counts).params / dense.params)


def test_the_reward_is_what_the_reward_gives_for_the_measured_candidate(
    env: FilterPruningEnv, problem: PruningProblem
) -> None:
    *_, last = walk(env, 4)
    actions = actions_for(env.slots, 100, 4)
    masks = [actions[k, : layer.filters] > 0 for k, layer in enumerate(problem.network.layers)]
    assert last[1] == env.reward(problem.evaluator([masks])[0])


def test_a_mask_that_would_empty_a_layer_is_repaired_and_info_says_so(
    env: FilterPruningEnv, problem: PruningProblem
) -> None:
    env.reset(seed=0)
    for layer in problem.network.layers:
        action = np.zeros(env.slots, np.int8)
        action[layer.filters :] = 1  # slots of the padding keep nothing alive
        info = env.step(action)[4]
        assert info["repaired"]
        assert info["keep_ratio"] == 1 / layer.filters
    assert env._episode is not None
    for mask, taylor in zip(env._episode.masks, problem.scores["taylor"], strict=True):
        assert np.flatnonzero(mask).tolist() == [int(taylor.argmax())]


def test_a_mask_that_keeps_something_is_left_as_it_is(env: FilterPruningEnv) -> None:
    env.reset(seed=0)
    action = np.zeros(env.slots, np.int8)
    action[3] = 1
    info = env.step(action)[4]
    assert not info["repaired"]
    assert env._episode is not None
    assert np.flatnonzero(env._episode.masks[0]).tolist() == [3]


def test_an_action_that_is_too_short_for_the_layer_is_refused(env: FilterPruningEnv) -> None:
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"the action has 5 entries, the layer stem\.0 has 32 filters"):
        env.step(np.ones(5))


def test_slots_of_the_padding_are_zero_and_what_an_action_says_there_is_ignored(
    problem: PruningProblem,
) -> None:
    one, other = (FilterPruningEnv(problem, slots=120) for _ in range(2))
    seen, _ = one.reset(seed=0)
    other.reset(seed=0)
    for layer, action in zip(problem.network.layers, actions_for(120, 100), strict=False):
        assert seen["mask"].sum() == layer.filters
        assert seen["mask"][: layer.filters].all()
        assert not seen["filters"][layer.filters :].any()
        contrary = action.copy()
        contrary[layer.filters :] = 1 - action[layer.filters :]
        step = one.step(action)
        assert data_equivalence(step, other.step(contrary), exact=True)
        seen = step[0]


def test_fewer_slots_than_filters_are_refused(problem: PruningProblem) -> None:
    for make in (FilterPruningEnv, lambda p, slots: LockstepVecEnv([p], TargetReward(), 2, slots=slots)):
        with pytest.raises(ValueError, match="slots is 40; the widest layer has 96 filters"):
            make(problem, slots=40)


def test_an_environment_without_a_network_is_refused() -> None:
    with pytest.raises(ValueError, match="no network to prune was given"):
        FilterPruningEnv([])


def test_a_step_before_the_first_reset_is_refused(problem: PruningProblem) -> None:
    with pytest.raises(RuntimeError, match="call reset"):
        FilterPruningEnv(problem).step(np.ones(96))


def test_a_step_after_the_last_layer_is_refused(env: FilterPruningEnv) -> None:
    walk(env, 0)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(np.ones(96))


@once_drawn
@given(target=st.floats(0.05, 1), keep=st.floats(0, 1), seed=st.integers(0, 2**31), bound=st.floats(0.1, 100))
def test_observations_stay_within_their_bounds(
    problem: PruningProblem,
    plain_problem: PruningProblem,
    target: float,
    keep: float,
    seed: int,
    bound: float,
) -> None:
    for reward in (TargetReward(target, "params"), TryAndLearnReward(bound)):
        env = FilterPruningEnv([problem, plain_problem], reward)
        seen, _ = env.reset(seed=seed % 1000)
        for action in actions_for(env.slots, 100, seed, keep):
            assert env.observation_space.contains(seen)
            assert np.abs(seen["layer"]).max() <= LIMIT
            seen, _, done, _, _ = env.step(action)
            if done:
                break


def test_the_agent_sees_what_it_has_spent_and_what_is_wanted(problem: PruningProblem) -> None:
    env = FilterPruningEnv(problem, TargetReward(0.4))
    seen, _ = env.reset(seed=0)
    feature = {name: k for k, name in enumerate(LAYER_FEATURES)}
    spent, needed = [], []
    for _ in problem.network.layers:
        assert seen["layer"][feature["target"]] == np.float32(0.4)
        assert seen["layer"][feature["drop_bound"]] == 0
        spent.append(float(seen["layer"][feature["spent"]]))
        needed.append(float(seen["layer"][feature["needed_keep_ratio"]]))
        seen = env.step(np.ones(env.slots))[0]
    assert spent == sorted(spent)
    assert needed == sorted(needed, reverse=True)  # who keeps all has to save the more later
    assert needed[-1] == 0.0
    least = cost(problem.network, np.ones_like(problem.network.widths)).macs / cost(problem.network).macs
    assert spent[0] == pytest.approx(least, rel=1e-5)


@pytest.mark.parametrize("factor", [1e-3, 7.0])
def test_features_do_not_change_with_a_scale_that_batch_norm_undoes(
    digit_task: ClassificationTask, plain_problem: PruningProblem, factor: float
) -> None:
    scaled = plain_network()
    with torch.no_grad():
        for convolution, norm in ((scaled[0], scaled[1]), (scaled[3], scaled[4])):
            convolution.weight *= factor
            if convolution.bias is not None:
                convolution.bias *= factor
            norm.running_mean *= factor
            norm.running_var *= factor**2
            norm.eps *= factor**2
    features = PruningProblem.build("scaled", scaled, digit_task, images=64).features
    for ours, theirs in zip(features.filters, plain_problem.features.filters, strict=True):
        # Ranks may swap where two scores are equal but for rounding.
        exact = [name for name in FILTER_FEATURES if name in STANDARDISED]
        columns = [FILTER_FEATURES.index(name) for name in exact]
        np.testing.assert_allclose(ours[:, columns], theirs[:, columns], atol=2e-3)
    np.testing.assert_allclose(features.layers, plain_problem.features.layers, atol=2e-3)


def test_features_are_standardised_inside_each_layer(problem: PruningProblem) -> None:
    for features in problem.features.filters:
        for name, column in zip(FILTER_FEATURES, features.T, strict=True):
            if "rank" in name or "reordered" in name:
                assert np.abs(column).max() <= 1
            elif column.any():
                assert abs(float(column.mean())) < 0.1  # clipping at 3 moves it a little
                assert 0.8 < float(column.std()) < 1.01


def test_ranks_rise_with_the_score_in_the_layer_and_over_the_network(problem: PruningProblem) -> None:
    ranks = [FILTER_FEATURES.index(name) for name in ("taylor_rank", "taylor_rank_network")]
    scores = problem.scores["taylor"]
    for features, score in zip(problem.features.filters, scores, strict=True):
        for rank in ranks:
            assert (np.diff(features[np.argsort(score, kind="stable"), rank]) > 0).all()
        assert (features[:, ranks[0]].min(), features[:, ranks[0]].max()) == (-1, 1)
    everywhere = np.concatenate([features[:, ranks[1]] for features in problem.features.filters])
    assert (np.argsort(everywhere) == np.argsort(np.concatenate(scores), kind="stable")).all()
    costs = np.repeat(problem.network.macs.per_filter(problem.network.widths), problem.network.widths)
    per_mac = FILTER_FEATURES.index("taylor_per_mac_rank_network")
    by_mac = np.concatenate([features[:, per_mac] for features in problem.features.filters])
    assert (np.diff(by_mac[np.argsort(np.concatenate(scores) / costs, kind="stable")]) > 0).all()


def test_a_picture_shows_what_has_been_decided(env: FilterPruningEnv) -> None:
    env.reset(seed=0)
    before = env.render()
    env.step(actions_for(env.slots, 1)[0])
    after = env.render()
    for picture in (before, after):
        assert picture is not None
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[2] == 3
    assert before is not None
    assert after is not None
    assert before.shape == after.shape
    assert (before != after).any()


def test_a_picture_has_the_colours_of_kept_removed_and_undecided_filters(problem: PruningProblem) -> None:
    masks = [np.arange(layer.filters) % 2 == 0 for layer in problem.network.layers[:2]]
    bars = figure_of_layers(problem.network, masks).axes[0].containers
    lengths = {c.get_label(): [bar.get_width() for bar in c] for c in bars}
    widths = problem.network.widths.tolist()
    assert lengths["kept"] == lengths["removed"] == [widths[0] / 2, widths[1] / 2]
    assert lengths["not decided yet"] == widths[2:]
    assert len({KEPT, REMOVED, UNDECIDED}) == 3


def test_without_a_render_mode_there_is_no_picture(problem: PruningProblem) -> None:
    env = FilterPruningEnv(problem)
    env.reset(seed=0)
    assert env.render() is None


def test_several_networks_take_turns_behind_the_same_spaces(
    problem: PruningProblem, plain_problem: PruningProblem
) -> None:
    env = FilterPruningEnv([plain_problem, problem])
    assert env.slots == 96
    names = {env.reset(seed=seed)[1]["network"] for seed in range(10)}
    assert names == {"demo", "plain"}
    assert len(walk(env, next(s for s in range(10) if env.reset(seed=s)[1]["network"] == "plain"))) == 1 + 2


def test_a_network_without_prunable_filters_is_refused_with_the_reason(
    digit_task: ClassificationTask,
) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(digit_task.input_shape), 10))
    with pytest.raises(ValueError, match="no filter of flat can be pruned: the network's output"):
        PruningProblem.build("flat", model, digit_task)


def test_measuring_is_all_that_an_episode_asks_of_the_evaluator(problem: PruningProblem) -> None:
    asked: list[Any] = []

    def evaluator(candidates: Any) -> Any:
        asked.append(candidates)
        return problem.evaluator(candidates)

    env = FilterPruningEnv(dataclasses.replace(problem, evaluator=evaluator))  # type: ignore[arg-type]
    walk(env, 0)
    assert len(asked) == 1
