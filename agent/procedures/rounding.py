"""What rounding is worth: the same decision without it, and its latency."""

import dataclasses

from ...envs.cost.config import LatencyConfig
from ...envs.cost.timer import measure_latency
from ...envs.problem.problem import PruningProblem
from ...envs.surgery.constrained_trace import constrain
from ...envs.surgery.constraints import Constraints
from ...envs.surgery.cutting import cut
from ...envs.surgery.plan import PruningPlan
from ...rewards import Reward
from ..deciders.base import Decider
from ..deciders.selection import Choice


def plan_without_rounding(
    problem: PruningProblem, decider: Decider, choice: Choice, reward: Reward, constraints: Constraints
) -> PruningPlan:
    """Let a decider make its own choice at the same size, within all constraints but rounding.

    Args:
        problem: The network, rounded.
        decider: Who chose.
        choice: What was chosen; its size is the target where a drop bound was wanted.
        reward: What was asked for.
        constraints: What was respected.
    """
    target = choice.outcome.ratio(reward.size) if reward.target is None else reward.target
    network = constrain(problem.network, problem.model, dataclasses.replace(constraints, round_to={}))
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
