"""The order in which blocks go: the least important first, measured anew after each.

A block's importance is the increase of the loss on val if it goes, for each MAC that it saves, as blocks save
differently much.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import nn

from ...envs.modules.calls import Call
from ...envs.recovery.branch_means import BranchMeans
from ...envs.surgery.block_removal import without_block
from ...envs.surgery.blocks import Block, BlockError, constant_output, find_blocks, verify_drop
from ...envs.tasks import Task, measure
from ..run.progress import log_info, log_verbose


@dataclass(frozen=True)
class Dropped:
    """A network without some blocks.

    Args:
        blocks: Names of the blocks that went, each in the network without those before.
        model: The network; what the branches added on average is added in their place.
        loss: Its loss on val.
    """

    blocks: tuple[str, ...]
    model: nn.Module
    loss: float


@dataclass
class BlockOrder:
    """Drop the blocks of a network one after another, the least important first.

    Importances are measured again only as far as they may decide: a block's importance usually grows as
    others go (a lazy greedy search, as of Minoux 1978).

    Args:
        task: The data.
        calls: What the network is checked with; the first finds the blocks.
        means: Gives what is added in place of a block.
        images: Images of val.
        protect: Patterns of layers that keep all filters; blocks with one of them stay.
        check: Called before a block is chosen; may raise.
    """

    task: Task
    calls: Sequence[Call]
    means: BranchMeans
    images: int
    protect: Sequence[str] = ()
    check: Callable[[], None] | None = None
    _known: dict[str, float] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)

    def __call__(self, model: nn.Module) -> Iterator[Dropped]:
        """Yield the network without blocks: without none, one, two, ..., as long as one can go."""
        now = Dropped((), model, self._loss(model))
        while True:
            yield now
            if self.check is not None:
                self.check()
            following = self._next(now)
            if following is None:
                return
            now = following

    def blocks(self, model: nn.Module) -> list[Block]:
        """Return the blocks that can go."""
        return [block for block in find_blocks(model, self.calls[0]) if self._can_go(block, model)]

    def _can_go(self, block: Block, model: nn.Module) -> bool:
        if block.refusal or block.last in self._refused:
            return False
        inside = [
            name
            for name, _ in model.named_modules()
            if any(f"{name}.".startswith(f"{part}.") for part in block.parts)
        ]
        return not any(fnmatchcase(name, pattern) for name in inside for pattern in self.protect)

    def _next(self, now: Dropped) -> Dropped | None:
        """Drop the least important block; None if none is left."""
        left = {block.last: block for block in self.blocks(now.model)}
        means = self.means.of(now.model, list(left.values()))
        measured: dict[str, float] = {}
        losses: dict[str, float] = {}
        while left:
            first = min(left, key=lambda last: measured.get(last, self._known.get(last, float("-inf"))))
            block = left[first]
            if first not in measured:
                with constant_output(now.model, block, means[first]):
                    losses[first] = self._loss(now.model)
                self._known[first] = measured[first] = (losses[first] - now.loss) / max(block.macs, 1.0)
                continue
            try:
                verify_drop(now.model, block, self.calls)
            except BlockError as error:
                log_info(f"{error}")
                self._refused.add(first)
                del left[first]
                continue
            log_verbose(f"block {block.name}: loss {now.loss:.4f} to {losses[first]:.4f} without it")
            smaller = without_block(now.model, block, means[first])
            return Dropped((*now.blocks, block.name), smaller, losses[first])
        return None

    def _loss(self, model: nn.Module) -> float:
        return measure(model, self.task, "val", limit=self.images).loss
