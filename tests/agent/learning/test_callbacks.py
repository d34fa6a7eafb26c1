"""SB3's callbacks of this package watch PPO on both environments, whoever sets it up."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecMonitor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from secateur.agent.learning.callbacks import NextValSubset, ProgressBar, SearchMonitor, SearchRecorder
from secateur.agent.learning.config import AgentConfig
from secateur.agent.learning.policy import FilterPolicy
from secateur.agent.learning.training import train_agent
from secateur.agent.run.search_history import SearchHistory
from secateur.envs import FilterPruningEnv, LockstepVecEnv, PruningProblem
from secateur.rewards import TargetReward
from support.toy import ToyEvaluator

TARGET = TargetReward(0.5)

ENVIRONMENTS: dict[str, Any] = {
    "single": lambda problem: FilterPruningEnv(problem, TARGET),
    "by name": lambda problem: gymnasium.make("secateur/FilterPruning-v0", problems=problem, reward=TARGET),
    "lock-step": lambda problem: VecMonitor(LockstepVecEnv([problem], TARGET, 2)),
}


class CountingEvaluator(ToyEvaluator):
    """Count how often other images were asked for."""

    turned = 0

    def next_val_subset(self) -> None:
        self.turned += 1


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Gymnasium's, of observations that are no images
@pytest.mark.parametrize("kind", ENVIRONMENTS)
@pytest.mark.parametrize("episodes", [3, 0.5])
def test_all_callbacks_work_on_every_environment(
    problem: PruningProblem, kind: str, episodes: float, tmp_path: Path
) -> None:
    evaluator: Any = CountingEvaluator(problem)
    toy = dataclasses.replace(problem, evaluator=evaluator)
    environment = ENVIRONMENTS[kind](toy)
    steps = round(len(toy.network.layers) * episodes)
    model = PPO(FilterPolicy, environment, n_steps=steps, batch_size=steps, n_epochs=1, device="cpu", seed=0)
    logger = configure(str(tmp_path), ["tensorboard"])
    model.set_logger(logger)
    history = SearchHistory()
    recorder = SearchRecorder([toy], 6, history)
    monitor = SearchMonitor(history, 2)
    watchers = [recorder, NextValSubset([toy]), monitor, ProgressBar(history, 6)]
    model.learn(10**6, callback=CallbackList(watchers))  # the recorder ends it
    logger.close()
    assert 6 <= recorder.used <= 6 + 3 * model.n_envs
    assert len(history.candidates) == recorder.used
    assert evaluator.turned > 0
    assert monitor.training_env.get_attr("problems")[0] == [toy]
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Scalars("search/reward")
    assert len(events.Scalars("search/macs_ratio")) == len(history.rewards)
    assert {"search/layers", "search/candidates", "search/keep_probabilities"} <= set(events.Tags()["images"])


def test_a_search_ends_when_its_last_updates_find_nothing_better(problem: PruningProblem) -> None:
    class Flat(ToyEvaluator):
        """Find all candidates alike."""

        def _outcome(self, masks: Any) -> Any:
            return dataclasses.replace(super()._outcome(masks), loss=1.0, accuracy=50.0)

    flat = dataclasses.replace(problem, evaluator=Flat(problem))  # type: ignore[arg-type]
    config = AgentConfig(160, episodes_per_update=8, patience=3)
    assert train_agent([flat], TargetReward(1.0), config).evaluations == 8 * 4
    endless = dataclasses.replace(config, patience=None)
    assert train_agent([flat], TargetReward(1.0), endless).evaluations == 160
    stopped = train_agent([flat], TargetReward(1.0), endless, is_over=lambda updates: updates == 6)
    assert stopped.evaluations == 8 * 6
