"""Blocks and filters together: some blocks go, and the run goes on with the network without them.

With ``auto`` networks without 0, 1, 2, ... blocks, the least important first, are compared at the size of the
target: the frozen agent and heuristics propose filters for each, and the best on val wins.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ...envs.cost.latency_table import LatencyTable
from ...envs.io.wording import counted
from ...envs.modules.ranks import broadcast
from ...envs.surgery.blocks import drop_blocks
from ...envs.surgery.unreachable import TargetUnreachableError
from ...envs.tasks import Task
from ...envs.tasks.held_back import hold_back
from ..run.folder import RunFolder
from ..run.progress import log_info
from ..run.results import Results
from .block_order import BlockOrder, Dropped
from .block_sizes import BlockSizes, Sized, best_filters
from .config import PruningConfig
from .goal import Goal
from .preparation import Prepared

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
    sizes = BlockSizes(model, task, prepared.network, config)
    results = Results(folder.checkpoint("blocks") if folder else None)
    check = folder.check if folder else None
    chosen = results.once("chosen", lambda: broadcast(_choose(sizes, name, check)))
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


def _choose(sizes: BlockSizes, name: str, check: Callable[[], None] | None) -> dict[str, Any]:
    """Choose the blocks that go, and return what a resumed run needs to drop them again.

    Args:
        sizes: The network, the data and the options.
        name: Name of the network, for messages.
        check: Called after each block; stops a run that was asked to stop.
    """
    config, task = sizes.config, sizes.task
    order = BlockOrder(
        task, sizes.dense.calls, sizes.means, config.search_images, config.constraints.protect, check
    )
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


def _drop_number(sizes: BlockSizes, order: BlockOrder, name: str) -> Sized:
    wanted = sizes.config.drop_blocks
    assert isinstance(wanted, int)
    for dropped in order(sizes.model):
        if len(dropped.blocks) == wanted:
            return sizes.of(dropped)
    raise ValueError(
        f"{name} has {counted(len(dropped.blocks), 'block')} that can go, not {wanted}; give --drop-blocks "
        f"{len(dropped.blocks)} at most, or auto"
    )


def _compare(sizes: BlockSizes, order: BlockOrder, name: str) -> tuple[Sized, list[dict[str, Any]]]:
    """Compare numbers of blocks at the target by the filters that are proposed for the rest."""
    best: tuple[float, float] | None = None
    chosen: Sized | None = None
    tried: list[dict[str, Any]] = []
    refusal, worse = "", 0
    searched = hold_back(sizes.task, sizes.config.seed).search
    for dropped in _sparsely(order(sizes.model)):
        try:
            sized = sizes.of(dropped)
            proposed = best_filters(sized, searched, name)
        except TargetUnreachableError as error:  # it may need more blocks
            refusal = f"{error}"
            continue
        decider, accuracy = proposed.decider, proposed.outcome.accuracy
        quality = (accuracy, -proposed.outcome.loss)
        tried.append({"blocks": len(dropped.blocks), "decider": decider, "accuracy": accuracy})
        log_info(f"{counted(len(dropped.blocks), 'block')}, filters by {decider}: {accuracy:.2f} % on val")
        if best is None or quality > best:
            best, chosen, worse = quality, sized, 0
        else:
            worse += 1
        if sized.is_met or worse == _PATIENCE:
            break
    if chosen is None:
        raise TargetUnreachableError(refusal)
    return chosen, tried


def _sparsely(dropped: Iterator[Dropped]) -> Iterator[Dropped]:
    """Take those without 0, 1, 2, ... blocks, and leave out more and more numbers as they grow."""
    following = 0
    for one in dropped:
        if len(one.blocks) >= following:
            yield one
            following = max(following + 1, round(following * _LEAST_PROGRESS))
