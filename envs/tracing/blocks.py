"""Blocks: residual branches that may go as a whole, found at the additions of one pass.

The branch of an operand of an addition is what it depends on and the other operand does not. Without it a
constant is added in its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..modules.calls import Call
from ..modules.stand_ins import BranchConstant
from .operations import Addition, ModuleCall, Operations, bits, record_operations

Part = Literal["entry", "inner", "last"]
"""Place of a module in a branch: ``entry`` reads what comes from outside, ``last`` returns what is added."""


@dataclass(frozen=True)
class Block:
    """A residual branch.

    Args:
        name: Name of the module that adds this branch and no other, else of the branch's last module.
        last: Name of the module whose output is added; "" if there is none.
        channels: Channels that it adds to, on the second axis.
        macs: Multiply-accumulate operations of the branch for one example.
        parts: The outermost modules of the branch by name, each with its place.
        parameters: Names of parameters that the branch alone reads and none of its modules has.
        rank: Axes of what it adds.
        steps: Positions of its input for each of what it adds, by axis; None if their sizes do not fit.
        is_written: Whether the sum overwrites its output, which then needs the size of the sum.
        refusal: Why it cannot go; "" if it can.
    """

    name: str
    last: str
    channels: int
    macs: float
    parts: Mapping[str, Part] = field(repr=False)
    parameters: tuple[str, ...] = field(repr=False)
    rank: int
    steps: tuple[int, ...] | None
    is_written: bool
    refusal: str = ""


def find_blocks(model: nn.Module, call: Call) -> tuple[Block, ...]:
    """Find the residual branches of a network, in the order in which they are added.

    A branch has parameters, and does not hold the network's input. Those that cannot go have a reason.

    Args:
        model: Any network; it is not changed. A copy of it runs once in evaluation mode.
        call: What to run.
    """
    done = record_operations(model, call)
    modules = {name for name, _ in model.named_modules() if name}
    batch = next(len(x) for x in tree_leaves(call.inputs) if isinstance(x, Tensor))
    found: list[tuple[Addition, Block]] = []
    for addition in done.additions:
        for own, other in (addition.operands, addition.operands[::-1]):
            branch = done.origins[own] & ~done.origins[other]
            if branch & done.inputs or not done.parameters_of(branch):
                continue
            block = _Branch(done, addition, own, branch, modules).block()
            if not isinstance(model.get_submodule(block.last), BranchConstant):  # it went before
                found.append((addition, replace(block, macs=block.macs / batch)))
    return tuple(_named(block, addition, found) for addition, block in found)


def _named(block: Block, addition: Addition, found: list[tuple[Addition, Block]]) -> Block:
    """Name a block after the module that adds it, if that adds nothing else."""
    holder = addition.module
    within = [other for other, _ in found if f"{other.module}.".startswith(f"{holder}.")]
    return replace(block, name=holder) if holder and len(within) == 1 else block


class _Branch:
    """One branch, and the modules that would be replaced.

    Args:
        done: The operations of the pass.
        addition: Where it is added.
        own: The operation that computes its operand.
        branch: Its operations.
        modules: Names of all modules.
    """

    def __init__(
        self, done: Operations, addition: Addition, own: int, branch: int, modules: set[str]
    ) -> None:
        self._done, self._addition, self._own, self._branch = done, addition, own, branch
        self._others = done.used & ~branch
        inside = {name for name in modules if self._is_inside(name)}
        self._outermost = sorted(
            name for name in inside if not any(name.startswith(f"{other}.") for other in inside)
        )

    def block(self) -> Block:
        """Describe the branch."""
        done, shape, own = self._done, self._addition.shape, self._own
        returning = [
            name for name in self._outermost if any(call.returned == own for call in done.calls[name])
        ]
        last = max(returning, key=lambda name: done.ended[name], default="")
        block = Block(
            name=last
            or max(self._outermost, key=lambda name: done.ended[name], default="")
            or self._addition.module,
            last=last,
            channels=shape[1] if len(shape) > 1 else 0,
            macs=sum(done.macs[k] for k in bits(self._branch)),
            parts={name: self._place(name, last) for name in self._outermost},
            parameters=tuple(
                name
                for name in done.parameters_of(self._branch)
                if not any(name.startswith(f"{part}.") for part in self._outermost)
            ),
            rank=len(shape),
            steps=_steps(self._first_call(), shape),
            is_written=self._addition.is_in_place and own == self._addition.operands[0],
        )
        return replace(block, refusal=self._refusal(block))

    def _refusal(self, block: Block) -> str:
        done, branch = self._done, self._branch
        others = self._others & ~(1 << self._addition.number)
        if branch & done.outputs or any(done.readers[k] & others for k in bits(branch)):
            return "what it computes is used elsewhere, too"
        for name in done.parameters_of(branch):
            if done.parameters[name] & self._others:
                return f"it shares {name} with other parts of the network"
        if not block.last:
            return "what it adds is not the output of one of its modules"
        if len(done.calls[block.last]) > 1:
            return f"{block.last}, whose output is added, runs several times"
        if block.channels not in {done.rows[name] for name in done.parameters_of(branch)}:
            return "the second axis of what it adds are not its channels"
        if block.is_written and block.steps is None:
            return "the sum overwrites its output, which has another size than its input"
        return ""

    def _place(self, name: str, last: str) -> Part:
        if name == last:
            return "last"
        outside = any(call.given & ~self._branch for call in self._done.calls[name])
        return "entry" if outside else "inner"

    def _first_call(self) -> ModuleCall | None:
        """Return the first call of a module of the branch that reads what comes from outside."""
        calls = [call for name in self._outermost for call in self._done.calls[name]]
        return min(
            (call for call in calls if call.given & ~self._branch), key=lambda call: call.begun, default=None
        )

    def _is_inside(self, name: str) -> bool:
        """Return whether all that a module does belongs to the branch."""
        calls = self._done.calls.get(name)
        if not calls or self._done.modules.get(name, 0) & self._others:
            return False
        return all(call.returned is not None and self._branch >> call.returned & 1 for call in calls)


def _steps(entry: ModuleCall | None, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the positions of an input for one of the output, by axis, as a padded convolution has them."""
    if entry is None or len(entry.shape) != len(shape):
        return None
    pairs = list(zip(entry.shape[2:], shape[2:], strict=True))
    steps = tuple(-(-before // after) for before, after in pairs)
    fits = all(-(-before // step) == after for (before, after), step in zip(pairs, steps, strict=True))
    return steps if fits else None
