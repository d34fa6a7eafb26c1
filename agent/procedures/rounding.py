"""The effect of rounding filter counts: the decision without it, and the latency of that."""

import dataclasses

from torch import nn

from ...envs.cost.config import LatencyConfig
from ...envs.problem.problem import PruningProblem
from ...envs.surgery.constrained_trace import constrain, without_rounding
from ...envs.surgery.constraints import Constraints
from ...envs.surgery.cutting import cut
from ...envs.surgery.plan import PruningPlan
from ...envs.tracing import TracedNetwork
from ...rewards import Reward
from ..deciders.selection import Choice
from ..reporting.speed import measure_speeds

_SHOWN = 3
"""Largest number of layers that a note names."""


def rounding_notes(network: TracedNetwork, model: nn.Module, constraints: Constraints) -> tuple[str, ...]:
    """Say which layers are not rounded though they should be; often nothing.

    Args:
        network: The trace.
        model: The traced network.
        constraints: The constraints of the run.
    """
    layers = without_rounding(network, model, constraints)
    if not layers:
        return ()
    named = ", ".join(f"{layer.name} ({layer.filters})" for layer in layers[:_SHOWN])
    more = f" and {len(layers) - _SHOWN} more" if len(layers) > _SHOWN else ""
    return (
        "--round-to does not round the filters of these layers, as they have fewer than the multiple, or "
        f"share an axis with others: {named}{more}; give a smaller multiple.",
    )


def plan_without_rounding(
    problem: PruningProblem, choice: Choice, reward: Reward, constraints: Constraints
) -> PruningPlan | None:
    """Let the decider of a choice choose again at the same size, with all constraints except rounding.

    There is no such plan if no layer is rounded.

    Args:
        problem: The network, traced with rounding.
        choice: The choice with rounding; its size is the target if the reward has none.
        reward: The reward of the run.
        constraints: The constraints of the run.
    """
    if len(without_rounding(problem.network, problem.model, constraints)) == len(problem.network.layers):
        return None
    target = choice.outcome.ratio(reward.size) if reward.target is None else reward.target
    network = constrain(problem.network, problem.model, dataclasses.replace(constraints, round_to={}))
    masks = choice.decider.decide(dataclasses.replace(problem, network=network), target, reward.size)[0]
    return PruningPlan.from_masks(network, masks)


def measure_plan(
    plan: PruningPlan, problem: PruningProblem, latency: LatencyConfig, dense: TracedNetwork
) -> dict[str, float]:
    """Measure the size and latency of a plan. No recovery is needed, as latency does not depend on weights.

    Args:
        plan: The pruning plan.
        problem: The network that the plan cuts.
        latency: Settings of the latency measurement.
        dense: Trace of the dense network; that of the problem may lack blocks.

    Returns:
        ``macs_ratio``, and ``latency_ms`` per batch.
    """
    network = problem.network
    pruned = cut(problem.model, network, plan)
    (row,), _, _ = measure_speeds((pruned,), problem.task, latency)
    return {
        "macs_ratio": float(network.macs(plan.counts(network)) / dense.macs(dense.widths)),
        "latency_ms": row["latency_ms"],
    }
