"""The effect of rounding widths: the same decision without rounding, and its latency."""

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
    """Let a decider decide again at the same size, with all constraints except rounding.

    Args:
        problem: The problem with rounding.
        decider: The decider of the choice.
        choice: The choice with rounding; its size is the target if the reward has none.
        reward: The reward of the run.
        constraints: The constraints of the run.
    """
    target = choice.outcome.ratio(reward.size) if reward.target is None else reward.target
    network = constrain(problem.network, problem.model, dataclasses.replace(constraints, round_to={}))
    masks = decider.decide(dataclasses.replace(problem, network=network), target, reward.size)[0]
    return PruningPlan.from_masks(network, masks)


def measure_plan(plan: PruningPlan, problem: PruningProblem, latency: LatencyConfig) -> dict[str, float]:
    """Measure the cost of a plan without recovery, as the latency does not depend on weights.

    Args:
        plan: The kept filters.
        problem: The problem with the network.
        latency: Settings of the measurement.

    Returns:
        ``macs_ratio``, and ``latency_ms`` per batch.
    """
    network = problem.network
    smaller = cut(problem.model, network, plan)
    return {
        "macs_ratio": float(network.macs(plan.counts(network)) / network.macs(network.widths)),
        "latency_ms": measure_latency(smaller, problem.task.input_shape, latency),
    }
