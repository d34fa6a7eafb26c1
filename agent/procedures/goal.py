"""The goal of a pruning run: its reward, decider and initial agent, made from the options once."""

from dataclasses import dataclass
from typing import Self

from ...envs.cost.counts import smallest_ratio
from ...envs.cost.latency_bounds import check_between
from ...envs.modules.digest import weights_digest
from ...envs.tracing import TracedNetwork
from ...rewards import Reward, TargetReward, TryAndLearnReward
from ..deciders.base import Budget, Decider
from ..deciders.baselines import Baseline
from ..deciders.names import PPO
from ..learning.config import RANDOM_WEIGHTS
from ..learning.frozen_agent import FrozenAgent
from .config import PruningConfig
from .options import DEFAULT_TARGET


@dataclass(frozen=True)
class Goal:
    """The reward, decider and initial agent of a pruning run.

    Args:
        reward: The reward that scores candidates; with a bound on the drop after the recovery that of the
            dense size, as each size that is tried has its own.
        decider: The decider that chooses the filters; None if an agent is trained first.
        initial_agent: The agent to train further; None if training starts with random weights, or if there
            is a decider.
    """

    reward: Reward
    decider: Decider | None
    initial_agent: FrozenAgent | None = None

    @classmethod
    def resolve(cls, config: PruningConfig, network: TracedNetwork) -> Self:
        """Create the reward, the decider and the initial agent that the options name.

        Args:
            config: The options of the run.
            network: The traced network, with a latency if the target is one.

        Raises:
            ValueError: If the network cannot reach the target or meets the latency already, or the agent
                cannot be loaded.
        """
        reward = _reward(config, network)
        if reward.target is not None:
            Budget(network, reward.target, reward.size)
        if config.method != PPO:
            return cls(reward, Baseline.from_name(config.method, config.seed))
        agent = agent_of(config)
        return cls(reward, None, agent) if config.learning.evaluations else cls(reward, agent)


def agent_of(config: PruningConfig) -> FrozenAgent | None:
    """Load the agent that a run begins with; None if there is none, or it begins with random weights.

    Raises:
        ValueError: If the agent cannot be loaded.
    """
    if config.method != PPO or config.agent_source == RANDOM_WEIGHTS:
        return None
    return FrozenAgent.load(config.agent_source, seed=config.seed)


def agent_digest(config: PruningConfig) -> str:
    """Return the hash of the weights of :func:`agent_of`; "" without an agent."""
    agent = agent_of(config)
    return "" if agent is None else weights_digest(agent.scorer)


def _reward(config: PruningConfig, network: TracedNetwork) -> Reward:
    if config.bound_after_recovery is not None:
        return TargetReward(1.0)
    if config.drop_bound is not None:
        return TryAndLearnReward(config.drop_bound)
    if config.target_latency is not None:
        return TargetReward(_share_of_latency(network, config.target_latency), "latency")
    return TargetReward(DEFAULT_TARGET if config.target_macs is None else config.target_macs)


def _share_of_latency(network: TracedNetwork, target: float) -> float:
    """Convert a target latency, ms, to a share of the dense network's latency.

    Raises:
        ValueError: If the network has no latency, or the target is not between the smallest latency and the
            dense one.
    """
    smallest = smallest_ratio(network, "latency")
    assert network.latency is not None
    dense = float(network.latency(network.widths))
    check_between(target, smallest * dense, dense)
    return target / dense
