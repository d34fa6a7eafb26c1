"""Training of agents with PPO (Schulman et al. 2017, arXiv 1707.06347), unmodified from Stable-Baselines3."""

import contextlib
import copy
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import Logger, configure
from stable_baselines3.common.vec_env import VecMonitor

from ...envs.environment.vectorized import LockstepVecEnv
from ...envs.problem.problem import PruningProblem
from ...rewards import RewardFunction, TargetRange, describe_reward
from ..run.search_history import SearchHistory
from .callbacks import NextValSubset, SearchRecorder
from .config import AgentConfig
from .frozen_agent import FrozenAgent
from .policy import FilterPolicy, FilterScorer

_PREFERENCE_RATE = 150.0
"""Learning rate of preferences as a multiple of that of all other weights, times sqrt(N) for N filters in the
network. One filter contributes about 1/sqrt(N) of the rewards' standard deviation, so the signal for its
preference is as much weaker, while Adam's steps on noise are as large for any N. ResNet-20 (352 filters) at
half the MACs has 79.7, 80.5, 80.7 and 81.2 % on test with multiples of 0, 1, 3 and 8 (one seed)."""

_PREFERENCE_EVALUATIONS = 2000
"""Candidates of the search for which that rate was chosen. A shorter search has to learn faster: with 256
candidates, eight an update, ResNet-20 has 75.0 % on unseen images with 150 and 80.7 % with 400 (seed 0); 79.2
with 400 and 79.1 with 1000 (seed 1)."""

_FASTEST = 3.0
"""Largest factor by which a shorter search learns preferences faster."""


@dataclass
class TrainingResult:
    """A trained agent and figures of its training.

    Args:
        decider: The agent as a frozen decider.
        model: SB3's PPO, for further training.
        seconds: Wall-clock time in this process.
        evaluations: Candidates measured.
        rewards: Mean reward of each update's candidates.
    """

    decider: FrozenAgent
    model: PPO = field(repr=False)
    seconds: float
    evaluations: int
    rewards: list[float]


@contextlib.contextmanager
def _preserved_random_state() -> Iterator[None]:
    """Restore what SB3's ``seed`` changes: the global random states, and cuDNN's settings."""
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
    reward: RewardFunction | TargetRange,
    config: AgentConfig,
    *,
    preferences: bool = False,
    initial_agent: FrozenAgent | None = None,
    seed: int = 0,
    logger: Logger | None = None,
    callbacks: Sequence[BaseCallback] = (),
    history: SearchHistory | None = None,
    first_step: int = 0,
    is_over: Callable[[int], bool] | None = None,
) -> TrainingResult:
    """Train an agent with PPO.

    Args:
        problems: The networks; each episode samples one.
        reward: The reward, any function of an outcome, or a range of targets from which each episode samples
            one.
        config: The options of the training.
        preferences: Whether to learn a preference for each filter, too. Preferences are of use on this
            network only, and the agent learns less that transfers to other networks.
        initial_agent: An agent to train further; None starts with random weights.
        seed: Seed of the policy's weights and samples, and of the choice of networks.
        logger: SB3's logger; None logs nothing.
        callbacks: SB3 callbacks; see :mod:`secateur.agent.learning.callbacks`.
        history: The history to append to, updated before the callbacks are called; None creates one.
        first_step: First step on TensorBoard's axis: the last step of an earlier agent with the same logger.
        is_over: Called after each update with the number of updates; whether to stop. None never stops.

    Returns:
        The agent, on the CPU.

    Raises:
        ValueError: If ``evaluations`` is 0, preferences are asked for with several networks, or the reward's
            target or bound is out of range.
        TypeError: If the reward is not a function, or the description of the training is not valid JSON.
    """
    if config.evaluations < 1:
        raise ValueError(f"evaluations is {config.evaluations}; an agent needs at least 1 to learn from")
    if preferences and len(problems) > 1:
        raise ValueError(f"{len(problems)} networks were given; an agent has preferences in one only")
    started = time.perf_counter()
    card = _card(problems, reward, seed, preferences=preferences, initial_agent=initial_agent)
    environment = LockstepVecEnv(
        problems,
        reward,
        config.episodes_per_update,
        hidden_features=config.hidden_features,
        group=config.group,
    )
    environment.seed(seed)
    layers = max(len(problem.network.layers) for problem in problems)
    steps = layers * config.episodes_per_update
    # Episodes of networks with fewer layers are shorter, so these steps may give more evaluations than asked
    # for; SearchRecorder stops at the limit.
    total = steps * config.updates

    def learning_rate(remaining: float) -> float:
        """Decay linearly; SB3 counts ``first_step`` as steps that are done."""
        return config.learning_rate * max(0.1, remaining * (first_step + total) / total)

    faster = min(_FASTEST, math.sqrt(_PREFERENCE_EVALUATIONS / config.evaluations))
    scale = _PREFERENCE_RATE * faster / math.sqrt(problems[0].network.widths.sum())
    with contextlib.ExitStack() as stack:
        stack.enter_context(_preserved_random_state())
        for problem in problems:  # an earlier training must not affect which images are used
            stack.enter_context(problem.evaluator.at_val_subset(0))
        model = PPO(
            FilterPolicy,
            VecMonitor(environment),
            n_steps=layers,
            batch_size=steps,
            n_epochs=config.epochs_per_update,
            learning_rate=learning_rate,
            clip_range=config.clip_range,
            ent_coef=config.entropy_weight,
            gamma=1.0,  # the reward comes at the end of an episode and counts for all layers alike
            gae_lambda=1.0,
            policy_kwargs={"layers": layers if preferences else None, "preference_lr_scale": scale},
            seed=seed,
            device=next(problems[0].model.parameters()).device,
        )
        scorer = scorer_of(model)
        if initial_agent is not None:
            scorer.set_preference_lr_scale(1.0)  # the scale of a saved state
            scorer.load_state_dict(
                scorer.state_dict() | initial_agent.state(problems[0] if preferences else None)
            )
            scorer.set_preference_lr_scale(scale)
        model.set_logger(logger or configure(None, []))
        history = SearchHistory() if history is None else history
        record = SearchRecorder(
            problems, config.evaluations, history, patience=config.patience, is_over=is_over
        )
        model.num_timesteps = first_step
        watchers = CallbackList([record, NextValSubset(problems), *callbacks])
        model.learn(total, callback=watchers, reset_num_timesteps=False)
        model.logger.dump(model.num_timesteps + 1)  # the last update's values, which SB3 would dump later
    scorer = copy.deepcopy(scorer).cpu()
    scorer.set_preference_lr_scale(1.0)
    decider = FrozenAgent(scorer.eval(), card | {"evaluations": record.used}, seed=seed)
    return TrainingResult(decider, model, time.perf_counter() - started, record.used, history.rewards)


def _card(
    problems: Sequence[PruningProblem],
    reward: RewardFunction | TargetRange,
    seed: int,
    *,
    preferences: bool,
    initial_agent: FrozenAgent | None,
) -> dict[str, Any]:
    """Describe the training for ``agent.json``; made before the training, so that errors come early."""
    card = {
        "networks": [problem.name for problem in problems],
        "task": ", ".join(dict.fromkeys(problem.task.name for problem in problems)),
        "reward": describe_reward(reward),
        "evaluations": 0,
        "seed": seed,
        **({"preferences": problems[0].fingerprint} if preferences else {}),
        **({"went_on_from": initial_agent.trained_on} if initial_agent is not None else {}),
    }
    json.dumps(card)
    return card


def scorer_of(model: PPO) -> FilterScorer:
    """Return the scorer in the policy of SB3's PPO."""
    scorer = model.policy.mlp_extractor
    assert isinstance(scorer, FilterScorer)
    return scorer
