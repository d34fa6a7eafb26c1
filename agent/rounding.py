"""What rounding is worth: the same decision without it, and its latency."""

import dataclasses

from ..envs.latency import measured_latency
from ..envs.limits import limited
from ..envs.plan import PruningPlan
from ..envs.problem import PruningProblem
from ..envs.surgery import cut
from .config import PruningConfig
from .deciders import Decider
from .selection import Choice


def unrounded(
    problem: PruningProblem, decider: Decider, choice: Choice, config: PruningConfig
) -> dict[str, float]:
    """Measure the decider's own choice at the same size, with all limits but rounding.

    Args:
        problem: The network, rounded.
        decider: Who chose.
        choice: What was chosen; its size is the target where a drop bound was wanted.
        config: What was wanted.

    Returns:
        ``macs_ratio``, and ``latency_ms`` of a batch; nothing is recovered, as weights take no time.
    """
    reward = config.reward(problem.network)
    target = choice.outcome.ratio(reward.size) if reward.target is None else reward.target
    network = limited(problem.network, problem.model, dataclasses.replace(config.limits, round_to={}))
    masks = decider.decide(dataclasses.replace(problem, network=network), target, reward.size)[0]
    plan = PruningPlan.from_masks(network, masks)
    smaller = cut(problem.model, network, plan)
    return {
        "macs_ratio": float(network.macs(plan.counts(network)) / network.macs(network.widths)),
        "latency_ms": measured_latency(smaller, problem.task.input_shape, config.latency),
    }
