"""What rounding is worth: the same decision without it, and its latency."""

import dataclasses

from ...envs.cost.latency_table import LatencyConfig, measure_latency
from ...envs.problem.problem import PruningProblem
from ...envs.surgery.constraints import constrain
from ...envs.surgery.cutting import cut
from ...envs.surgery.plan import PruningPlan
from ..deciders.base import Decider
from ..deciders.selection import Choice
from .config import PruningConfig


def plan_without_rounding(
    problem: PruningProblem, decider: Decider, choice: Choice, config: PruningConfig
) -> PruningPlan:
    """Let a decider make its own choice at the same size, within all limits but rounding.

    Args:
        problem: The network, rounded.
        decider: Who chose.
        choice: What was chosen; its size is the target where a drop bound was wanted.
        config: What was wanted.
    """
    reward = config.reward(problem.network)
    target = choice.outcome.ratio(reward.size) if reward.target is None else reward.target
    network = constrain(problem.network, problem.model, dataclasses.replace(config.limits, round_to={}))
    masks = decider.decide(dataclasses.replace(problem, network=network), target, reward.size)[0]
    return PruningPlan.from_masks(network, masks)


def measure_plan(plan: PruningPlan, problem: PruningProblem, latency: LatencyConfig) -> dict[str, float]:
    """Measure a plan without recovering anything, as weights take no time.

    Args:
        plan: What stays.
        problem: The network.
        latency: How latencies are measured.

    Returns:
        ``macs_ratio``, and ``latency_ms`` of a batch.
    """
    network = problem.network
    smaller = cut(problem.model, network, plan)
    return {
        "macs_ratio": float(network.macs(plan.counts(network)) / network.macs(network.widths)),
        "latency_ms": measure_latency(smaller, problem.task.input_shape, latency),
    }
