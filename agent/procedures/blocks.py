"""Blocks and filters together: some blocks go, and the run goes on with the network without them.

With ``auto`` networks without 0, 1, 2, ... blocks, the least important first, are compared at the size of the
target: the frozen agent and heuristics propose filters for each, and the best on val wins.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from torch import nn

from ...envs.cost.latency_table import LatencyTable
from ...envs.cost.profiling import TimingCache, with_latency
from ...envs.modules.ranks import broadcast, first_decides
from ...envs.problem.problem import PruningProblem, check_prunable
from ...envs.recovery.branch_means import BranchMeans
from ...envs.surgery.blocks import drop_blocks
from ...envs.surgery.constrained_trace import trace_constrained
from ...envs.tasks import Task
from ...envs.tasks.held_back import hold_back
from ...envs.tracing import TracedNetwork
from ...rewards import Outcome
from ..deciders.base import Decider
from ..deciders.baselines import Baseline
from ..deciders.finalists import NAMED
from ..deciders.names import PPO
from ..learning.config import PRETRAINED, RANDOM_WEIGHTS
from ..learning.frozen_agent import FrozenAgent
from ..run.folder import RunFolder
from ..run.progress import log_info
from ..run.results import Results
from .block_order import BlockOrder, Dropped
from .config import PruningConfig
from .goal import Goal
from .options import DEFAULT_TARGET
from .preparation import Prepared

_HEURISTICS = 3
"""Heuristics of :data:`.NAMED`, the first ones, that propose filters for each number of blocks."""

_PATIENCE = 2
"""Numbers of blocks that are worse than the best, after which no larger ones are tried."""

_LEAST_PROGRESS = 1.25
"""Factor from one number of blocks that is tried to the next, where that is more than one block."""


@dataclass(frozen=True)
class WithoutBlocks:
    """A network without blocks, which takes the dense network's place in a run.

    Args:
        blocks: Names of the blocks that went.
        model: The network.
        prepared: Its trace and goal.
        config: The options, with the target as a share of this network.
        report: The report's entry; see :func:`.write_report`.
    """

    blocks: tuple[str, ...]
    model: nn.Module
    prepared: Prepared
    config: PruningConfig
    report: dict[str, Any]


def drop_chosen_blocks(
    model: nn.Module,
    task: Task,
    prepared: Prepared,
    config: PruningConfig,
    *,
    name: str,
    folder: RunFolder | None = None,
) -> WithoutBlocks:
    """Choose blocks and drop them.

    Args:
        model: The dense network, in evaluation mode.
        task: Data and metric.
        prepared: The trace of the dense network.
        config: The options of the run, with ``drop_blocks``.
        name: Name of the network, for messages.
        folder: Folder of the run, so that a resumed one drops the same blocks; None keeps nothing.

    Raises:
        ValueError: If the network has too few blocks, or the target cannot be met without blocks either.
    """
    sizes = _Sizes(model, task, prepared.network, config)
    results = Results(folder.checkpoint("blocks") if folder else None)
    chosen = results.once("chosen", lambda: broadcast(_choose(sizes, name)))
    blocks = tuple(chosen["blocks"])
    calls = prepared.network.calls
    means = sizes.means
    smaller = drop_blocks(model, blocks, calls, means) if blocks else model
    table = None if chosen["latency"] is None else LatencyTable.from_dict(chosen["latency"])
    sized = sizes.of(Dropped(blocks, smaller, 0.0), table)
    said = ", ".join(blocks) or "none, as filters alone are better"
    log_info(f"blocks that go: {said}; the target is {sized.said} of the network without them")
    goal = Goal.resolve(sized.config, sized.network)
    report = {"total": chosen["total"], "dropped": list(blocks), "tried": chosen["tried"]}
    return WithoutBlocks(
        blocks, smaller, replace(prepared, network=sized.network, goal=goal), sized.config, report
    )


@dataclass(frozen=True)
class _Sized:
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
class _Sizes:
    """Turn the target of a run into one for a network without some blocks."""

    model: nn.Module
    task: Task
    dense: TracedNetwork
    config: PruningConfig

    def __post_init__(self) -> None:
        self._cache: TimingCache = {}

    @property
    def means(self) -> BranchMeans:
        return BranchMeans(self.task, self.config.compensation_images, self.config.seed)

    def of(self, dropped: Dropped, table: LatencyTable | None = None) -> _Sized:
        """Trace a network without blocks, and convert the target.

        Args:
            dropped: The network.
            table: Its latency table if it was timed before.

        Raises:
            ValueError: If it has no prunable filter.
        """
        config, model = _without_lost_patterns(self.config, dropped.model), dropped.model
        network = self.dense
        if dropped.blocks:
            example = self.dense.calls[0].inputs
            network = trace_constrained(model, example, config.constraints)
        check_prunable(network, "the network without blocks")
        if config.target_latency is None:
            target = DEFAULT_TARGET if config.target_macs is None else config.target_macs
            macs = (float(traced.macs(traced.widths)) for traced in (self.dense, network))
            return _Sized(
                dropped, network, replace(config, target_macs=min(1.0, target * next(macs) / next(macs)))
            )
        shape, latency = self.task.input_shape, config.latency
        if table is None:
            log_info(f"timing the network without {len(dropped.blocks)} blocks")
            network = first_decides(lambda: with_latency(model, network, shape, latency, cache=self._cache))
        else:
            network = replace(network, latency=table)
        assert network.latency is not None
        if float(network.latency(network.widths)) <= config.target_latency:
            config = replace(config, target_latency=None, target_macs=1.0)
        return _Sized(dropped, network, config)


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
        config, round_to=remain(config.round_to), max_sparsity=remain(config.max_sparsity), drop_blocks=None
    )


def _choose(sizes: _Sizes, name: str) -> dict[str, Any]:
    """Choose the blocks that go, and return what a resumed run needs to drop them again."""
    config, task = sizes.config, sizes.task
    order = BlockOrder(task, sizes.dense.calls, sizes.means, config.search_images, config.constraints.protect)
    tried: list[dict[str, Any]] = []
    if config.drop_blocks == "auto":
        sized, tried = _compare(sizes, order, name)
    else:
        sized = _drop_number(sizes, order, name)
    latency = sized.network.latency
    return {
        "total": len(order.blocks(sizes.model)),
        "blocks": list(sized.dropped.blocks),
        "latency": latency.to_dict() if isinstance(latency, LatencyTable) else None,
        "tried": tried,
    }


def _drop_number(sizes: _Sizes, order: BlockOrder, name: str) -> _Sized:
    wanted = sizes.config.drop_blocks
    assert isinstance(wanted, int)
    for dropped in order(sizes.model):
        if len(dropped.blocks) == wanted:
            return sizes.of(dropped)
    raise ValueError(
        f"{name} has {len(dropped.blocks)} blocks that can go, not {wanted}; give --drop-blocks "
        f"{len(dropped.blocks)} at most, or auto"
    )


def _compare(sizes: _Sizes, order: BlockOrder, name: str) -> tuple[_Sized, list[dict[str, Any]]]:
    """Compare numbers of blocks at the target by the filters that are proposed for the rest."""
    best: tuple[float, float] | None = None
    chosen: _Sized | None = None
    tried: list[dict[str, Any]] = []
    refusal, worse = "", 0
    searched = hold_back(sizes.task, sizes.config.seed).search
    for dropped in _sparsely(order(sizes.model)):
        try:
            sized = sizes.of(dropped)
            decider, outcome = _best_filters(sized, searched, name)
        except ValueError as error:  # the target may need more blocks
            refusal = f"{error}"
            continue
        quality = (outcome.accuracy, -outcome.loss)
        tried.append({"blocks": len(dropped.blocks), "decider": decider, "accuracy": outcome.accuracy})
        log_info(f"{len(dropped.blocks)} blocks, filters by {decider}: {outcome.accuracy:.2f} % on val")
        if best is None or quality > best:
            best, chosen, worse = quality, sized, 0
        else:
            worse += 1
        if sized.is_met or worse == _PATIENCE:
            break
    if chosen is None:
        raise ValueError(refusal)
    return chosen, tried


def _sparsely(dropped: Iterator[Dropped]) -> Iterator[Dropped]:
    """Take those without 0, 1, 2, ... blocks, and leave out more and more numbers as they grow."""
    following = 0
    for one in dropped:
        if len(one.blocks) >= following:
            yield one
            following = max(following + 1, round(following * _LEAST_PROGRESS))


def _best_filters(sized: _Sized, task: Task, name: str) -> tuple[str, Outcome]:
    """Measure what the frozen agent and some heuristics propose; return the best one's name and outcome."""
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
        return "none", problem.evaluator([whole])[0]
    proposals = [
        (decider.name, masks)
        for decider, count in _deciders(config)
        for masks in broadcast(decider.decide(problem, reward.target, reward.size))[:count]
    ]
    outcomes = problem.evaluator([masks for _, masks in proposals])
    best = max(range(len(outcomes)), key=lambda k: (outcomes[k].accuracy, -outcomes[k].loss))
    return proposals[best][0], outcomes[best]


def _deciders(config: PruningConfig) -> list[tuple[Decider, int]]:
    """Return who proposes filters, each with the number of its proposals that are measured."""
    if config.method != PPO:
        return [(Baseline.from_name(config.method, config.seed), 1)]
    source = PRETRAINED if config.agent_source == RANDOM_WEIGHTS else config.agent_source
    agent = replace(FrozenAgent.load(source, seed=config.seed), samples=0)
    return [*((Baseline.from_name(each), 1) for each in NAMED[:_HEURISTICS]), (agent, 2)]
