"""The sizes of networks without some blocks, and the filters that are proposed for them.

Shapes: N filters of a layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import numpy as np
from torch import nn

from ...envs.cost.counts import smallest_ratio
from ...envs.cost.latency_table import LatencyTable
from ...envs.cost.profiling import TimingCache, with_latency
from ...envs.cost.timer import compare_speed
from ...envs.io.wording import counted
from ...envs.modules.ranks import broadcast, first_decides
from ...envs.problem.problem import PruningProblem, check_prunable
from ...envs.recovery.branch_means import BranchMeans
from ...envs.surgery.constrained_trace import trace_constrained
from ...envs.surgery.plan import Mask
from ...envs.surgery.unreachable import TargetUnreachableError
from ...envs.tasks import Task
from ...envs.tracing import TracedNetwork
from ...rewards import Outcome
from ..deciders.base import Decider
from ..deciders.baselines import Baseline
from ..deciders.finalists import NAMED
from ..deciders.names import PPO
from ..learning.config import PRETRAINED, RANDOM_WEIGHTS
from ..learning.frozen_agent import FrozenAgent
from ..run.progress import log_info
from .block_order import Dropped
from .config import PruningConfig
from .goal import Goal
from .options import DEFAULT_TARGET

_HEURISTICS = 3
"""Heuristics of :data:`.NAMED`, the first ones, that propose filters for each number of blocks."""


@dataclass(frozen=True)
class Sized:
    """A network without blocks that can meet the target.

    Args:
        dropped: The network.
        network: Its trace, with a latency if the target is one.
        config: The options, with the target as a share of it.
    """

    dropped: Dropped
    network: TracedNetwork
    config: PruningConfig

    @property
    def is_met(self) -> bool:
        """Whether the network meets the target with all its filters."""
        return self.config.target_macs == 1.0

    @property
    def said(self) -> str:
        """The target, in words."""
        config = self.config
        return (
            f"{config.target_macs:.1%}" if config.target_latency is None else f"{config.target_latency:g} ms"
        )


@dataclass
class BlockSizes:
    """Turn the target of a run into one for a network without some blocks.

    Args:
        model: The dense network.
        task: Data and metric.
        dense: Its trace.
        config: The options of the run.
        cache: Times of modules, which networks without blocks share.
        dense_ms: Latency of the dense network, ms; None before it was timed.
    """

    model: nn.Module
    task: Task
    dense: TracedNetwork
    config: PruningConfig
    cache: TimingCache = field(default_factory=dict)
    dense_ms: float | None = None

    @property
    def means(self) -> BranchMeans:
        """What is added in place of blocks."""
        return BranchMeans(self.task, self.config.compensation_images, self.config.seed)

    def of(self, dropped: Dropped, table: LatencyTable | None = None) -> Sized:
        """Trace a network without blocks, and convert the target.

        Args:
            dropped: The network.
            table: Its latency table if it was timed before.

        Raises:
            TargetUnreachableError: If it has no prunable filter, or is above the target with the fewest
                filters allowed.
        """
        config, model = _without_lost_patterns(self.config, dropped.model), dropped.model
        network = self.dense
        if dropped.blocks:
            example = self.dense.calls[0].inputs
            network = trace_constrained(model, example, config.constraints)
        check_prunable(network, "the network without blocks")
        if config.target_latency is None:
            target = DEFAULT_TARGET if config.target_macs is None else config.target_macs
            dense, left = (float(traced.macs(traced.widths)) for traced in (self.dense, network))
            smallest = smallest_ratio(network, "macs") * left / dense
            if dropped.blocks and smallest > target:
                raise TargetUnreachableError(
                    f"the target {target:g} of the MACs cannot be reached: without "
                    f"{counted(len(dropped.blocks), 'block')} and with the fewest filters allowed the "
                    f"network keeps {smallest:.4f}; ask for at least {math.ceil(smallest * 1e3) / 1e3:g}"
                )
            return Sized(dropped, network, replace(config, target_macs=min(1.0, target * dense / left)))
        if table is None:
            log_info(f"timing the network without {counted(len(dropped.blocks), 'block')}")
            table = first_decides(lambda: self._timed(dropped, network))
        network = replace(network, latency=table)
        if float(table(network.widths)) <= config.target_latency:
            config = replace(config, target_latency=None, target_macs=1.0)
        return Sized(dropped, network, config)

    def _timed(self, dropped: Dropped, network: TracedNetwork) -> LatencyTable:
        """Make the latency table of a network without blocks.

        Tables that are made one after another may differ as the machine does. So each is scaled: the network
        is as much faster than the dense one as it is where both are timed in turns.
        """
        shape, latency = self.task.input_shape, self.config.latency
        table = with_latency(dropped.model, network, shape, latency, cache=self.cache).latency
        assert isinstance(table, LatencyTable)
        dense, smaller = compare_speed([self.model, dropped.model], shape, latency)
        self.dense_ms = self.dense_ms or dense.fastest_ms
        wanted = self.dense_ms * smaller.fastest_ms / dense.fastest_ms
        first, second, third = (wanted / float(table(network.widths)) * each for each in table.coefficients)
        return replace(table, coefficients=(first, second, third))


def _without_lost_patterns(config: PruningConfig, model: nn.Module) -> PruningConfig:
    """Leave out constraints on layers that went with a block."""
    names = [name for name, _ in model.named_modules()]

    def remain(words: Sequence[str]) -> tuple[str, ...]:
        patterns = [word.rpartition("=")[0] or "*" for word in words]
        return tuple(
            word
            for word, pattern in zip(words, patterns, strict=True)
            if any(fnmatchcase(name, pattern) for name in names)
        )

    return replace(
        config,
        round_to=remain(config.round_to),
        max_sparsity=remain(config.max_sparsity),
        size=tuple(word for word in config.size if word.partition("=")[2] in names),
        drop_blocks=None,
    )


@dataclass(frozen=True, eq=False)  # arrays have no truth value
class Proposed:
    """Filters for a network without some blocks.

    Args:
        decider: Name of who proposed them.
        masks: One keep mask (N,) per layer.
        outcome: The outcome on val before fine-tuning.
    """

    decider: str
    masks: list[Mask]
    outcome: Outcome


def best_filters(sized: Sized, task: Task, name: str) -> Proposed:
    """Measure what the frozen agent and some heuristics propose for a network, and return the best on val.

    Args:
        sized: The network.
        task: Data and metric.
        name: Its name, for messages.

    Raises:
        TargetUnreachableError: If no choice of filters meets the target.
    """
    config = sized.config
    goal = Goal.resolve(config, sized.network)
    reward = goal.reward
    assert reward.target is not None
    problem = PruningProblem.build(
        name,
        sized.dropped.model,
        task,
        network=sized.network,
        images=config.search_images,
        compensation_images=config.compensation_images,
        seed=config.seed,
    )
    if sized.is_met:
        whole = [np.ones(layer.filters, np.bool_) for layer in sized.network.layers]
        return Proposed("none", whole, problem.evaluator([whole])[0])
    proposals = [
        (decider.name, masks)
        for decider, count in _deciders(config)
        for masks in broadcast(decider.decide(problem, reward.target, reward.size))[:count]
    ]
    outcomes = problem.evaluator([masks for _, masks in proposals])
    best = max(range(len(outcomes)), key=lambda k: (outcomes[k].accuracy, -outcomes[k].loss))
    return Proposed(*proposals[best], outcomes[best])


def _deciders(config: PruningConfig) -> list[tuple[Decider, int]]:
    """Return who proposes filters, each with the number of its proposals that are measured."""
    if config.method != PPO:
        return [(Baseline.from_name(config.method, config.seed), 1)]
    source = PRETRAINED if config.agent_source == RANDOM_WEIGHTS else config.agent_source
    agent = replace(FrozenAgent.load(source, seed=config.seed), samples=0)
    return [*((Baseline.from_name(each), 1) for each in NAMED[:_HEURISTICS]), (agent, 2)]
