"""What the policy promises: the order and the number of filters do not matter, and empty slots do not exist.

Shapes: B observations, M slots, N filters of a layer, F filter features, G layer features.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from torch import Tensor

from secateur.agent.learning.policy import LOGIT_LIMIT, FilterPolicy, FilterScorer
from secateur.envs import LockstepVecEnv, PruningProblem
from secateur.envs.environment.single import make_spaces
from secateur.envs.problem.features import FILTER_FEATURES, LAYER_FEATURES, PRIOR
from secateur.rewards import TargetReward

F, G = len(FILTER_FEATURES), len(LAYER_FEATURES)


def scorer(seed: int = 0) -> FilterScorer:
    """Make a scorer with weights as large as after training."""
    torch.manual_seed(seed)
    made = FilterScorer(F, G, 32)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    return made


def policy(slots: int) -> FilterPolicy:
    torch.manual_seed(0)
    made = FilterPolicy(*make_spaces(slots), lambda _: 1e-3)
    with torch.no_grad():
        made.mlp_extractor.score[-1].weight.mul_(50)
    return made


NEEDED = LAYER_FEATURES.index("needed_keep_ratio")


def observation(
    filters: int, slots: int, batch: int = 3, seed: int = 0, needed: float = 0.7
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(batch, slots, dtype=torch.int8)
    mask[:, :filters] = 1
    seen = torch.zeros(batch, slots, F)
    seen[:, :filters] = torch.randn(batch, filters, F, generator=generator)
    layer = torch.randn(batch, G, generator=generator)
    layer[:, NEEDED] = needed
    return {"filters": seen, "layer": layer, "mask": mask}


@pytest.mark.parametrize("seed", range(3))
def test_a_filter_is_scored_from_its_own_features_its_layers_and_the_mean_over_the_layer(seed: int) -> None:
    made, seen = scorer(seed), observation(5, 9, seed=seed)
    logits = made.forward_actor(seen)
    for row in range(len(logits)):
        filters, layer = seen["filters"][row, :5], seen["layer"][row].expand(5, -1)
        embedded = made.embed(torch.cat([filters, layer], dim=1))
        joined = torch.cat([embedded, embedded.mean(0).expand(5, -1), layer], dim=1)
        scores = (made.score(joined) + made.prior(filters)).squeeze(1)
        differences = (logits[row, :5] - scores).detach()
        inside = logits[row, :5].abs() < LOGIT_LIMIT
        assert differences[inside].std() < 1e-4  # they differ by what the needed keep ratio adds
        assert inside.sum() > 1


@pytest.mark.parametrize("seed", range(3))
def test_permuting_the_filters_permutes_the_logits(seed: int) -> None:
    seen, order = observation(20, 20, seed=seed), torch.randperm(20)
    permuted = {**seen, "filters": seen["filters"][:, order]}
    made = scorer(seed)
    logits = made.forward_actor(seen)
    torch.testing.assert_close(made.forward_actor(permuted), logits[:, order])
    assert logits.std(dim=1).min() > 0.1
    torch.testing.assert_close(made.forward_critic(permuted), made.forward_critic(seen))


def test_a_filter_is_judged_beside_the_others_of_its_layer() -> None:
    seen, made = observation(8, 8), scorer()
    changed = {**seen, "filters": seen["filters"].clone()}
    changed["filters"][:, 5:] += 1
    assert (made.forward_actor(changed)[:, :5] - made.forward_actor(seen)[:, :5]).abs().max() > 1e-3


@pytest.mark.parametrize("filters", [1, 7, 64, 500])
def test_the_same_weights_serve_a_layer_of_any_width_and_ignore_the_padding(filters: int) -> None:
    made = scorer()
    tight, wide = observation(filters, filters), observation(filters, filters + 100)
    wide["filters"][:, filters:] = 9.0  # what lies in empty slots is not looked at
    torch.testing.assert_close(made.forward_actor(wide)[:, :filters], made.forward_actor(tight))


def test_logits_stay_where_no_filter_is_beyond_learning() -> None:
    made = scorer()
    with torch.no_grad():
        made.score[-1].weight.mul_(1e4)
    assert made.forward_actor(observation(20, 20)).abs().max() <= LOGIT_LIMIT


def test_empty_slots_have_no_log_probability_no_entropy_and_no_gradient() -> None:
    made = policy(120)
    seen = observation(20, 120)
    actions = torch.randint(0, 2, (3, 120), generator=torch.Generator().manual_seed(0)).float()
    kept = actions.clone()
    kept[:, 20:] = 1
    seen["filters"].requires_grad_(True)
    _, log_prob, entropy = made.evaluate_actions(seen, kept)
    tight = {
        "filters": seen["filters"][:, :20].detach(),
        "layer": seen["layer"],
        "mask": seen["mask"][:, :20],
    }
    narrow = policy(20)
    narrow.load_state_dict(made.state_dict())
    _, tight_log_prob, tight_entropy = narrow.evaluate_actions(tight, kept[:, :20])
    torch.testing.assert_close(log_prob, tight_log_prob)
    torch.testing.assert_close(entropy, tight_entropy)
    (log_prob.sum() + entropy.sum()).backward()
    gradient = seen["filters"].grad
    assert gradient is not None
    assert not gradient[:, 20:].any()
    assert gradient[:, :20].any()


def test_samples_keep_all_empty_slots_so_that_their_log_probability_is_zero() -> None:
    made = policy(120)
    torch.manual_seed(0)
    actions, _, log_prob = made(observation(20, 120, batch=64, needed=0.5))
    assert actions[:, 20:].all()
    assert not actions[:, :20].all()
    # 20 filters, each decision some share of log(1/2), divided by sqrt(20)
    assert -np.sqrt(20) * np.log(2) < float(log_prob.detach().mean()) < -np.sqrt(20) * np.log(2) / 5


@pytest.mark.parametrize("keep", [0.05, 0.5, 0.7, 0.95])
def test_before_training_the_best_filters_stay_and_as_many_as_meet_the_target(keep: float) -> None:
    torch.manual_seed(0)
    made = FilterPolicy(*make_spaces(512), lambda _: 1e-3)
    seen = observation(500, 512, batch=8, needed=keep)
    seen["filters"][:, :500, PRIOR] = torch.linspace(-1, 1, 500)
    probabilities = torch.sigmoid(made.get_distribution(seen).distribution.logits[:, :500])
    torch.testing.assert_close(probabilities.mean(1), torch.full((8,), keep), atol=0.02, rtol=0)
    assert (probabilities.diff(dim=1).mean(1) > 0).all()


def test_the_log_probability_moves_as_far_in_a_wide_layer_as_in_a_narrow_one() -> None:
    """PPO clips the exponential of these differences, so their size must not depend on the width."""
    spreads = []
    for filters in (16, 128, 1024):
        made = policy(filters)
        seen = observation(filters, filters, batch=256)
        torch.manual_seed(1)
        actions, _, before = made(seen)
        with torch.no_grad():
            made.mlp_extractor.score[-1].bias += 0.1
        after = made.evaluate_actions(seen, actions)[1]
        spreads.append(float((after - before).detach().std()))
    assert max(spreads) / min(spreads) < 1.25


def test_entropy_is_that_of_one_filter_whatever_the_width() -> None:
    for filters in (4, 400):
        seen = observation(filters, 500, needed=0.5)
        entropy = policy(500).evaluate_actions(seen, torch.ones(3, 500))[2]
        assert entropy is not None
        assert 0.1 < float(entropy.detach().mean()) < np.log(2) + 1e-6


def test_ppo_saves_and_loads_the_policy(problem: PruningProblem, tmp_path: Path) -> None:
    environment = LockstepVecEnv([problem], TargetReward(0.5), 2)
    model = PPO(FilterPolicy, environment, n_steps=6, batch_size=12, seed=0, device="cpu",
                policy_kwargs={"hidden": 24})  # fmt: skip
    model.learn(12)
    model.save(tmp_path / "agent.zip")
    loaded = PPO.load(tmp_path / "agent.zip", env=environment, device="cpu")
    assert isinstance(loaded.policy, FilterPolicy)
    assert loaded.policy.hidden == 24
    seen = environment.reset()
    torch.manual_seed(0)
    before, _ = model.predict(seen)
    torch.manual_seed(0)
    after, _ = loaded.predict(seen)
    np.testing.assert_array_equal(before, after)
    loaded.learn(12, reset_num_timesteps=False)


def test_the_policy_alone_survives_sb3s_saving(tmp_path: Path) -> None:
    made = policy(30)
    made.save(str(tmp_path / "policy.pt"))
    loaded = FilterPolicy.load(str(tmp_path / "policy.pt"), device="cpu")
    seen = observation(20, 30)
    torch.testing.assert_close(
        loaded.get_distribution(seen).distribution.logits, made.get_distribution(seen).distribution.logits
    )
