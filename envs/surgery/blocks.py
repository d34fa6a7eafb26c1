"""Drop residual blocks, and verify that the network without them computes what it has to.

The reference is the network itself, in which a hook sets what the branch adds to the constant.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..modules.calls import Call
from ..modules.copying import with_own_state
from ..tracing.blocks import Block, find_blocks
from .block_removal import Constants, find_block, without_block, zero_constants
from .paired_runs import ChangedNetworkFailedError, Run, compare_runs, run_in_both_modes
from .probe import InexactCutError
from .randomisation import drawn, randomised

__all__ = ["Block", "BlockError", "constant_output", "drop_blocks", "find_blocks", "verify_drop"]


class BlockError(InexactCutError):
    """A network without a block does not compute what it has to."""


def drop_blocks(
    model: nn.Module, names: Sequence[str], calls: Sequence[Call], constants: Constants = zero_constants
) -> nn.Module:
    """Drop blocks one after another, and verify each step.

    Args:
        model: The network; it is not changed.
        names: Names of the blocks, or of their last modules; each is that of the network without those
            before.
        calls: What to run; blocks are found in the first, all are checked.
        constants: What is added in place of each block.

    Returns:
        A network that computes what ``model`` does with constants in place of the branches' outputs.

    Raises:
        ValueError: If there is no such block, or it cannot go.
    """
    for name in names:
        block = find_block(model, name, calls[0])
        verify_drop(model, block, calls)
        model = without_block(model, block, constants(model, block))
    return model


def verify_drop(model: nn.Module, block: Block, calls: Sequence[Call]) -> float:
    """Compare the network without a block with the one in which its output is set to a constant.

    Weights, inputs and the constant are random, and both networks run in evaluation and in training mode.

    Args:
        model: The network; it is not changed.
        block: One of its blocks.
        calls: What to run.

    Returns:
        The largest relative difference.

    Raises:
        BlockError: If it is above 1e-9 (1e-4 for a network that runs in float32 alone), or the network
            without the block does not run.
    """

    def pair(precision: torch.dtype) -> tuple[Run, Run]:
        dense = randomised(model, precision=precision)
        given = [drawn(call.to(precision), 0) for call in calls]
        generator = torch.Generator().manual_seed(0)
        constant = torch.randn(block.channels, generator=generator, dtype=precision)

        def run() -> list[Tensor]:
            held = with_own_state(dense)
            with constant_output(held, block, constant):
                return run_in_both_modes(held, given, precision)

        return run, lambda: run_in_both_modes(without_block(dense, block, constant), given, precision)

    try:
        difference, is_exact = compare_runs(pair)
    except ChangedNetworkFailedError as error:
        raise BlockError(
            f"the block {block.name!r} cannot go: the network without it does not run ({error}); leave it out"
        ) from error
    if not is_exact:
        raise BlockError(
            f"the block {block.name!r} cannot go: the network without it differs by {difference:.1e} from "
            "the one that adds a constant in its place; leave it out"
        )
    return difference


@contextmanager
def constant_output(model: nn.Module, block: Block, constant: Tensor) -> Iterator[None]:
    """Let a network add a constant in place of a branch, which it computes nevertheless.

    Args:
        model: The network.
        block: One of its blocks.
        constant: The constant, (C,).
    """

    def constantly(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return constant.view(1, -1, *[1] * (output.ndim - 2)).expand_as(output).clone()

    handle = model.get_submodule(block.last).register_forward_hook(constantly)
    try:
        yield
    finally:
        handle.remove()
