"""Train an agent with Stable-Baselines3's PPO (Schulman et al. 2017, arXiv 1707.06347)."""

import contextlib
import copy
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import Logger, configure
from stable_baselines3.common.vec_env import VecMonitor

from ...envs.environment.vectorized import LockstepVecEnv
from ...envs.problem.problem import PruningProblem
from ...rewards import Reward, TargetRange
from ..run.search_history import SearchHistory
from .callbacks import NextValSubset, SearchRecorder
from .config import AgentConfig
from .frozen_agent import FrozenAgent
from .policy import FilterPolicy, FilterScorer

_PREFERENCE_RATE = 150.0
"""Divided by sqrt(number of filters): the factor of the preferences' learning rate. One of N filters causes
about 1/sqrt(N) of the rewards' standard deviation, but Adam normalises gradients, so noise moves a preference
as much. At half the MACs of ResNet-20 (352 filters), the accuracy on test is 79.7, 80.5, 80.7 and 81.2 % with
the factors 0, 1, 3 and 8 (one seed)."""


@dataclass
class TrainingResult:
    """The result of a training.

    Args:
        decider: The frozen agent.
        model: SB3's model, for further training.
        seconds: Wall-clock time.
        evaluations: Number of measured candidates.
        rewards: Mean reward of each update's candidates.
    """

    decider: FrozenAgent
    model: PPO = field(repr=False)
    seconds: float
    evaluations: int
    rewards: list[float]


@contextlib.contextmanager
def _preserved_random_state() -> Iterator[None]:
    """Restore what SB3's ``seed`` changes: the global generators and cuDNN's settings."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (it is SB3 that uses it)
    cudnn = torch.backends.cudnn
    deterministic, benchmark = cudnn.deterministic, cudnn.benchmark
    try:
        with torch.random.fork_rng():
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = deterministic, benchmark
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


def train_agent(
    problems: Sequence[PruningProblem],
    reward: Reward | TargetRange,
    config: AgentConfig,
    *,
    preferences: bool = False,
    initial_agent: FrozenAgent | None = None,
    seed: int = 0,
    logger: Logger | None = None,
    callbacks: Sequence[BaseCallback] = (),
    history: SearchHistory | None = None,
    first_step: int = 0,
) -> TrainingResult:
    """Train an agent.

    Args:
        problems: The problems; each episode draws one.
        reward: The reward; from a range, each episode draws its target.
        config: Settings of the training.
        preferences: Whether to learn a preference per filter too. They help on this network only, and the
            agent then generalises less to others.
        initial_agent: Agent whose weights are the start; None starts from random weights.
        seed: Seed for the policy's weights, its samples and the order of networks.
        logger: SB3's logger; None logs nothing.
        callbacks: Callbacks of SB3; see :mod:`secateur.agent.learning.callbacks`.
        history: History to append to, before the callbacks are called; None makes one.
        first_step: First step on TensorBoard's axis, where an earlier agent with the same logger ended.

    Returns:
        The agent, on the CPU.

    Raises:
        ValueError: If there are no evaluations, or preferences are wanted for several networks.
    """
    if config.evaluations < 1:
        raise ValueError(f"evaluations is {config.evaluations}; an agent needs at least 1 to learn from")
    if preferences and len(problems) > 1:
        raise ValueError(f"{len(problems)} networks were given; an agent has preferences in one only")
    started = time.perf_counter()
    environment = LockstepVecEnv(
        problems, reward, config.episodes_per_update, hidden_features=config.hidden_features
    )
    environment.seed(seed)
    layers = max(len(problem.network.layers) for problem in problems)
    steps = layers * config.episodes_per_update
    # Networks with fewer layers finish earlier, so these steps give at least the evaluations; SearchRecorder
    # stops at them.
    total = steps * math.ceil(config.evaluations / config.episodes_per_update)

    def learning_rate(remaining: float) -> float:
        """Decrease linearly; SB3 counts ``first_step`` as done."""
        return config.learning_rate * max(0.1, remaining * (first_step + total) / total)

    with _preserved_random_state():
        model = PPO(
            FilterPolicy,
            VecMonitor(environment),
            n_steps=layers,
            batch_size=steps,
            n_epochs=config.epochs_per_update,
            learning_rate=learning_rate,
            clip_range=config.clip_range,
            ent_coef=config.entropy_weight,
            gamma=1.0,  # the reward comes at the end, and every layer shares it
            gae_lambda=1.0,
            policy_kwargs={"layers": layers if preferences else None},
            seed=seed,
            device=next(problems[0].model.parameters()).device,
        )
        scorer = scorer_of(model)
        if initial_agent is not None:
            scorer.load_state_dict(
                scorer.state_dict() | initial_agent.state(problems[0] if preferences else None)
            )
        scorer.set_preference_lr_scale(_PREFERENCE_RATE / math.sqrt(problems[0].network.widths.sum()))
        model.set_logger(logger or configure(None, []))
        history = SearchHistory() if history is None else history
        record = SearchRecorder(problems, config.evaluations, history)
        model.num_timesteps = first_step
        watchers = CallbackList([record, NextValSubset(problems), *callbacks])
        model.learn(total, callback=watchers, reset_num_timesteps=False)
        model.logger.dump(model.num_timesteps + 1)  # logs the last update's figures
    scorer = copy.deepcopy(scorer).cpu()
    scorer.set_preference_lr_scale(1.0)
    card = {
        "networks": [problem.name for problem in problems],
        "task": problems[0].task.name,
        "reward": {"name": type(reward).__name__, **asdict(reward)},  # type: ignore[arg-type]
        "evaluations": record.used,
        "seed": seed,
        **({"preferences": problems[0].fingerprint} if preferences else {}),
        **({"went_on_from": initial_agent.trained_on} if initial_agent is not None else {}),
    }
    decider = FrozenAgent(scorer.eval(), card, seed=seed)
    return TrainingResult(decider, model, time.perf_counter() - started, record.used, history.rewards)


def scorer_of(model: PPO) -> FilterScorer:
    """Return the scorer in SB3's PPO model."""
    scorer = model.policy.mlp_extractor
    assert isinstance(scorer, FilterScorer)
    return scorer
