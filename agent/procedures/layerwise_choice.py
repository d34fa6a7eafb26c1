"""The choice for one layer of layer-wise pruning, and how many candidates it measures."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...envs.cost.counts import smallest_ratio
from ...envs.problem.problem import PruningProblem
from ...envs.tracing import TracedNetwork
from ...envs.tracing.derived import restricted
from ...rewards import Reward
from ..deciders.averaging import AVERAGES, BEST
from ..deciders.base import Decider
from ..deciders.baselines import Baseline
from ..deciders.selection import Choice, choose
from ..learning.config import AgentConfig
from ..learning.frozen_agent import FrozenAgent

KEEP_RATIOS = (0.05, *np.arange(1, 10) / 10)
"""Keep ratios at which a decider proposes candidates for a layer, with a drop bound."""

SAMPLES = 4
"""Candidates sampled from a policy in addition to its deterministic decision, with a target."""


def choose_in_layer(problem: PruningProblem, decider: Decider, reward: Reward) -> Choice | None:
    """Choose a candidate for one layer; None keeps all its filters.

    With a drop bound the candidate with the highest reward is chosen if this is positive, which means that it
    removes filters within the bound.

    Args:
        problem: The problem of the layer alone.
        decider: The decider that proposes candidates.
        reward: The reward of the layer.
    """
    if reward.target is not None:
        return choose(problem, decider, reward)
    filters = problem.network.layers[0].filters
    candidates = [
        masks
        for count in _counts(problem.network)
        for masks in decider.decide(problem, count / filters, reward.size)
    ]
    outcomes = problem.evaluator(candidates)
    rewards = [reward(outcome) for outcome in outcomes]
    best = int(np.argmax([0.0, *rewards])) - 1
    return None if best < 0 else Choice(candidates[best], outcomes[best], len(outcomes), decider)


def _counts(layer: TracedNetwork) -> Sequence[int]:
    """Return the numbers of filters that are tried with a drop bound, for a network of one layer."""
    filters, smallest = layer.layers[0].filters, smallest_ratio(layer, "filters")
    counts = sorted({round(ratio * filters) for ratio in KEEP_RATIOS})
    return [count for count in counts if smallest <= count / filters < 1]


def search_in_layer(learning: AgentConfig, layers: int) -> AgentConfig:
    """Return the training of the agent of one layer: an equal share of the evaluations, at least one update.

    Args:
        learning: The training of a run.
        layers: Layers that are pruned, at least 1.
    """
    update = learning.episodes_per_update
    updates = max(1, learning.evaluations // (layers * update))
    return replace(learning, evaluations=updates * update)


def expected_candidates(network: TracedNetwork, decider: Decider | None, target: float | None) -> int:
    """Return how many candidates the choices of all layers measure, at most.

    Args:
        network: The traced network.
        decider: The decider of all layers; None if each has an agent of its own, which is trained.
        target: The target, pruned / dense; None with a drop bound, with which several sizes are tried.
    """
    samples = decider.samples if isinstance(decider, FrozenAgent) else SAMPLES if target is not None else 0
    own = 1 if isinstance(decider, Baseline) else FrozenAgent.deterministic + samples
    if target is not None:
        return len(network.layers) * (own + (AVERAGES if own >= max(BEST) else 0))
    return sum(len(_counts(restricted(network, index))) for index in range(len(network.layers))) * own
