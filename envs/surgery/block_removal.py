"""Remove residual branches from a network; :mod:`.blocks` verifies what it does."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..io.suggestions import did_you_mean
from ..modules.calls import Call
from ..modules.copying import replica
from ..modules.stand_ins import BranchConstant, BranchEntry
from ..tracing.blocks import Block, find_blocks

Constants = Callable[[nn.Module, Block], Tensor]
"""Returns what is added in place of a block of a network, one number for each channel, (C,)."""


def zero_constants(model: nn.Module, block: Block) -> Tensor:
    """Return zeros: nothing is added in place of the block."""
    some = next(model.parameters())
    return torch.zeros(block.channels, dtype=some.dtype, device=some.device)


def find_block(model: nn.Module, name: str, call: Call) -> Block:
    """Find a block that can go by its name, or that of its last module.

    Args:
        model: The network.
        name: The name.
        call: What to run.

    Raises:
        ValueError: If there is no such block, or it cannot go.
    """
    found = find_blocks(model, call)
    block = next((each for each in found if name in (each.name, each.last)), None)
    if block is None:
        names = [each.name for each in found if not each.refusal]
        raise ValueError(
            f"the network has no block {name!r}{did_you_mean(name, names)}; "
            + (f"its blocks are {', '.join(names)}" if names else "no branch of it can go")
        )
    if block.refusal:
        raise ValueError(f"the block {name!r} cannot go: {block.refusal}; leave it out")
    return block


def without_block(model: nn.Module, block: Block, constant: Tensor) -> nn.Module:
    """Copy a network without a branch: its modules are replaced by those that cost next to nothing.

    Args:
        model: The network; it is not changed.
        block: The block.
        constant: What is added in its place, (C,).
    """
    steps = block.steps if block.is_written else None
    smaller = replica(model)
    after_entry = {name for name, place in block.parts.items() if place == "entry"}
    for name, place in block.parts.items():
        if place == "last":
            # Its input has the size of its output if another module has read the network's.
            own = None if steps is None else tuple(1 for _ in steps) if after_entry else steps
            stand_in: nn.Module = BranchConstant(constant, block.rank, own)
        else:
            stand_in = BranchEntry(steps) if place == "entry" else nn.Identity()
        _replace(smaller, name, stand_in.train(smaller.training))
    for name in block.parameters:
        _shrink(smaller, name)
    return smaller


def remove_blocks(model: nn.Module, names: Sequence[str], call: Call) -> nn.Module:
    """Remove blocks one after another, without a check; zeros are added in place of each.

    Args:
        model: The network; it is not changed.
        names: Their names; each is that of the network without those before.
        call: What to run.

    Raises:
        ValueError: If there is no such block, or it cannot go.
    """
    for name in names:
        block = find_block(model, name, call)
        model = without_block(model, block, zero_constants(model, block))
    return model


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Replace a module under all its names."""
    old = model.get_submodule(name)
    for parent in model.modules():
        for child, held in list(parent._modules.items()):
            if held is old:
                parent._modules[child] = module


def _shrink(model: nn.Module, name: str) -> None:
    """Give a parameter or buffer, whose value no longer matters, a single number."""
    path, _, own = name.rpartition(".")
    owner = model.get_submodule(path)
    tensor = getattr(owner, own)
    if not tensor.is_floating_point():
        return
    small = tensor.detach().new_zeros([1] * tensor.ndim)
    is_parameter = isinstance(tensor, nn.Parameter)
    setattr(owner, own, nn.Parameter(small, requires_grad=False) if is_parameter else small)
