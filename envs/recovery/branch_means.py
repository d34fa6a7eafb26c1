"""What a residual branch adds on average: the best constant in its place, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..modules.inputs import run_on_copy
from ..modules.modes import restored_modes
from ..tasks.base import Task
from ..tasks.training_images import drawn_inputs
from ..tracing.blocks import Block
from .config import COMPENSATION_IMAGES


@dataclass(frozen=True)
class BranchMeans:
    """Average what branches add over training images and positions.

    The mean is the constant with the smallest mean squared difference from the branch.

    Args:
        task: The task with the training images, augmented as in training; labels are not used.
        images: Number of images, at least 0; 0 gives zeros.
        seed: Seed for the choice of images and their augmentation.
    """

    task: Task
    images: int = COMPENSATION_IMAGES
    seed: int = 0

    def __call__(self, model: nn.Module, block: Block) -> Tensor:
        """Return the mean of a block's branch for each channel, (C,)."""
        return self.of(model, [block])[block.last]

    def of(self, model: nn.Module, blocks: Sequence[Block]) -> dict[str, Tensor]:
        """Return the means of several blocks, from one pass, by the names of their last modules.

        Args:
            model: The network, on the task's device.
            blocks: Its blocks.
        """
        some = next(model.parameters())
        sums = {block.last: some.new_zeros(block.channels, dtype=torch.float64) for block in blocks}
        counts = dict.fromkeys(sums, 0)

        def adder(name: str) -> Any:
            def add(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
                sums[name] += output.double().transpose(0, 1).flatten(1).sum(1)
                counts[name] += output.numel() // output.shape[1]

            return add

        handles = [model.get_submodule(name).register_forward_hook(adder(name)) for name in sums]
        try:
            with restored_modes(model), torch.no_grad():
                model.eval()
                for inputs in drawn_inputs(self.task, self.images, self.seed):
                    run_on_copy(model, inputs)
        finally:
            for handle in handles:
                handle.remove()
        return {name: (total / max(1, counts[name])).to(some.dtype) for name, total in sums.items()}
