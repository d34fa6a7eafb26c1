"""Layer dropping: residual blocks go as a whole, alone or before filters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from ...envs.io.wording import counted
from ...envs.modules.copying import replica
from ...envs.modules.ranks import broadcast
from ...envs.recovery.branch_means import BranchMeans
from ...envs.surgery.blocks import drop_blocks
from ...envs.surgery.constrained_trace import trace_constrained
from ...envs.surgery.plan import PruningPlan
from ...envs.tracing import TracedNetwork, trace
from ..deciders.names import PPO
from ..procedures.block_order import BlockOrder
from ..run.results import Results
from .base import Job, Kind, Result, System
from .filters import prune_within_passes
from .training import train_stage


@dataclass(frozen=True)
class Blocks:
    """Drop blocks alone, the least important first, until the target is met; then train."""

    kind: ClassVar[Kind] = "blocks"

    def __call__(self, job: Job) -> Result:
        """Drop blocks and train.

        Raises:
            ValueError: If the network is larger than the target without any of its blocks, or has none.
        """
        calls = job.network.calls
        results = Results(job.folder.checkpoint("blocks") if job.folder else None)
        blocks = tuple(results.once("dropped", lambda: broadcast(list(_down_to_target(job)))))
        model = drop_blocks(job.model, blocks, calls, _means(job)) if blocks else replica(job.model)
        network = trace_constrained(model, calls[0].inputs, job.config.constraints)
        train_stage(job, model, job.epochs, "training")
        plan = replace(PruningPlan.dense(network), blocks=blocks)
        details = {"blocks": list(blocks), "macs_ratio": _macs(network) / _macs(job.network)}
        return Result(model, plan, job.epochs, (), details)


@dataclass(frozen=True)
class AgentAndBlocks:
    """Drop as many blocks as pay, and let the agent and heuristics choose filters of the rest."""

    kind: ClassVar[Kind] = "blocks"

    def __call__(self, job: Job) -> Result:
        """Drop blocks, cut filters and recover; the finalists recover within the job's passes, too.

        Raises:
            ValueError: If the target cannot be met.
        """
        return prune_within_passes(job, PPO, drop_blocks="auto")


def _down_to_target(job: Job) -> Iterator[str]:
    """Yield the names of blocks to drop until the target is met."""
    config, calls = job.config, job.network.calls
    order = BlockOrder(job.task, calls, _means(job), config.search_images, config.constraints.protect)
    left, wanted, number = _macs(job.network), job.target * _macs(job.network), 0
    for dropped in order(job.model):
        if dropped.blocks:
            yield dropped.blocks[-1]
            left = _macs(trace(dropped.model, calls[0].inputs))
        if left <= wanted:
            return
        number = len(dropped.blocks)
    if not number:
        raise ValueError(f"{job.name} has no block that can go; take a system that removes something else")
    least = math.ceil(1e3 * left / _macs(job.network)) / 1e3
    raise ValueError(
        f"the target {job.target:g} of the MACs cannot be reached by dropping blocks alone: without "
        f"{counted(number, 'block')}, all that can go, {job.name} keeps {least:g}; ask for at least that, "
        "or take agent-blocks, which cuts filters, too"
    )


def _means(job: Job) -> BranchMeans:
    return BranchMeans(job.task, job.config.compensation_images, job.config.seed)


def _macs(network: TracedNetwork) -> float:
    return float(network.macs(network.widths))


BLOCKS: Mapping[str, System] = {"blocks": Blocks(), "agent-blocks": AgentAndBlocks()}
"""The systems of this module by name."""
