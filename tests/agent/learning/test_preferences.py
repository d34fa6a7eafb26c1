"""What preferences promise: filters that look alike are told apart, in the network where that was learned.

Shapes: L layers, M slots, N filters of a layer.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import configure

from secateur.agent.learning.config import AgentConfig
from secateur.agent.learning.frozen_agent import FrozenAgent
from secateur.agent.learning.policy import FilterPolicy, FilterScorer
from secateur.agent.learning.training import TrainingResult, train_agent
from secateur.envs.environment.episode import Episode
from secateur.envs.environment.vectorized import LockstepVecEnv
from secateur.envs.problem.features import FILTER_FEATURES, LAYER_FEATURES
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.plan import Mask
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tracing import TracedNetwork
from secateur.rewards import TargetReward
from support.toy import toy_of

TARGET = TargetReward(0.5)


@pytest.fixture(scope="module")
def alike(plain_problem: PruningProblem) -> PruningProblem:
    """Give a network whose filters all look the same within their layer."""
    seen = plain_problem.features
    blank = dataclasses.replace(seen, filters=[np.zeros_like(features) for features in seen.filters])
    return toy_of(plain_problem, features=blank)


@pytest.fixture(scope="module")
def learned(alike: PruningProblem) -> TrainingResult:
    return train_agent([alike], TARGET, AgentConfig(200), preferences=True)


def decision(decider: FrozenAgent, problem: PruningProblem) -> list[Mask]:
    return dataclasses.replace(decider, samples=0).decide(problem, 0.5, "macs")[0]


def accuracy(decider: FrozenAgent, problem: PruningProblem) -> float:
    return problem.evaluator([decision(decider, problem)])[0].accuracy


def same(one: list[Mask], other: list[Mask]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def without(decider: FrozenAgent) -> FrozenAgent:
    scorer = copy.deepcopy(decider.scorer)
    scorer.preferences = None
    return dataclasses.replace(decider, scorer=scorer)


def test_a_preference_moves_the_logit_of_one_filter(alike: PruningProblem) -> None:
    layers, slots = len(alike.network.layers), int(alike.network.widths.max())
    scorer = FilterScorer(len(FILTER_FEATURES), len(LAYER_FEATURES), 8, (layers, slots))
    assert scorer.preferences is not None
    episode, logits = Episode(alike, TARGET, slots), []
    for value in (0.0, 0.125):
        scorer.preferences.data[0, 3] = value
        seen = {key: torch.from_numpy(array)[None] for key, array in episode.observe().items()}
        logits.append(scorer.forward_actor(seen)[0])
    moved = logits[1] - logits[0]
    assert moved[3].item() == pytest.approx(0.125, abs=1e-5)
    assert moved.count_nonzero() == 1
    second = seen | {"position": torch.ones(1, 1, dtype=torch.int32)}  # the preference is of the first layer
    torch.testing.assert_close(scorer.forward_actor(second)[0], logits[0])
    scorer.set_preference_lr_scale(4.0)
    torch.testing.assert_close(scorer.forward_actor(seen)[0], logits[1])
    assert scorer.preferences.data[0, 3].item() == pytest.approx(0.125 / 4)


def test_filters_that_look_alike_are_told_apart(alike: PruningProblem, learned: TrainingResult) -> None:
    shared = train_agent([alike], TARGET, AgentConfig(200)).decider
    assert shared.scorer.preferences is None
    assert accuracy(learned.decider, alike) > accuracy(shared, alike) + 20


def test_they_count_in_their_own_network_only(alike: PruningProblem, learned: TrainingResult) -> None:
    agent, bare = learned.decider, without(learned.decider)
    assert not same(decision(agent, alike), decision(bare, alike))
    model = copy.deepcopy(alike.model)
    next(model.parameters()).data[0, 0, 0, 0] += 1e-3
    for other in (
        dataclasses.replace(alike, model=model),
        dataclasses.replace(alike, network=_renamed(alike)),
    ):
        assert same(decision(agent, other), decision(bare, other))
    alone = train_agent(
        [dataclasses.replace(alike, model=model)],
        TARGET,
        AgentConfig(16),
        preferences=True,
        initial_agent=agent,
    ).decider.scorer.preferences
    assert alone is not None  # one update's: those of the agent are not taken over
    assert learned.decider.scorer.preferences is not None
    assert alone.abs().max() < 0.3 * learned.decider.scorer.preferences.abs().max()


def _renamed(problem: PruningProblem) -> TracedNetwork:
    first, *others = problem.network.layers
    return dataclasses.replace(problem.network, layers=[dataclasses.replace(first, name="another"), *others])


def test_they_are_kept_on_disk_and_gone_on_from(
    alike: PruningProblem, learned: TrainingResult, tmp_path: Path
) -> None:
    learned.decider.save(tmp_path)
    loaded = FrozenAgent.load(tmp_path)
    assert same(decision(loaded, alike), decision(learned.decider, alike))
    kept, left = (
        train_agent([alike], TARGET, AgentConfig(16), preferences=preferences, initial_agent=loaded).rewards[
            0
        ]
        for preferences in (True, False)
    )
    assert kept > left + 0.1


@pytest.mark.parametrize("shape", [(1, 1), (3,), (0, 4, 4), ()])
def test_those_of_a_file_that_do_not_fit_are_not_looked_at(
    alike: PruningProblem, learned: TrainingResult, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    agent = dataclasses.replace(learned.decider, scorer=copy.deepcopy(learned.decider.scorer))
    agent.scorer.preferences = torch.nn.Parameter(torch.ones(shape))
    agent.save(tmp_path)
    loaded = FrozenAgent.load(tmp_path)
    assert same(decision(loaded, alike), decision(without(agent), alike))


def test_a_network_that_was_traced_anew_is_known_again(
    alike: PruningProblem, learned: TrainingResult
) -> None:
    network = trace_exactly(alike.model, torch.zeros(2, *alike.task.input_shape))
    again = dataclasses.replace(alike, network=network)
    assert again.fingerprint == alike.fingerprint
    assert same(decision(learned.decider, again), decision(learned.decider, alike))


def test_a_network_is_told_by_its_weights_whatever_else_its_modules_keep(alike: PruningProblem) -> None:
    class Noted(torch.nn.Module):
        def get_extra_state(self) -> dict[str, str]:
            return {"note": "no tensor"}

        def set_extra_state(self, state: dict[str, str]) -> None:
            """There is nothing to set."""

    model = copy.deepcopy(alike.model)
    model.add_module("noted", Noted())
    noted = dataclasses.replace(alike, model=model)
    assert noted.fingerprint == alike.fingerprint
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1
    assert dataclasses.replace(alike, model=model).fingerprint != alike.fingerprint


def test_preferences_in_several_networks_are_refused(
    alike: PruningProblem, plain_problem: PruningProblem
) -> None:
    with pytest.raises(ValueError, match="2 networks were given; an agent has preferences in one only"):
        train_agent([alike, plain_problem], TARGET, AgentConfig(16), preferences=True)


def test_sb3_saves_and_loads_what_is_preferred_and_learning_goes_on_alike(
    alike: PruningProblem, tmp_path: Path
) -> None:
    model = train_agent([alike], TARGET, AgentConfig(64), preferences=True).model
    model.save(tmp_path / "agent.zip")
    model.policy.save(str(tmp_path / "policy.pt"))
    environment = LockstepVecEnv([alike], TARGET, 16)
    seen = {key: torch.from_numpy(array) for key, array in environment.reset().items()}
    loaded = PPO.load(tmp_path / "agent.zip", env=environment, device="cpu")
    for policy in (loaded.policy, FilterPolicy.load(str(tmp_path / "policy.pt"), device="cpu")):
        one, other = (p.get_distribution(seen).distribution for p in (model.policy, policy))
        assert torch.equal(one.logits, other.logits)
    model.set_env(environment)
    for learner in (model, loaded):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 (PPO shuffles by it)
        environment.seed(0)
        learner.set_logger(configure(None, []))
        learner.learn(len(alike.network.layers) * 16, reset_num_timesteps=False)
    weights = [learner.policy.state_dict() for learner in (model, loaded)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
