"""Modules that stand in for those of a residual branch that is gone: they cost next to nothing.

Shapes: B examples, C channels, S positions on all further axes, of which there are none, one or several.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .inputs import first_input


class BranchEntry(nn.Module):
    """Return zeros with a single channel in place of what a module computes from (B, C, S).

    Args:
        steps: Positions of the input for each of the output, by axis; None returns a single position.
    """

    def __init__(self, steps: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, *given: Any, **named: Any) -> Tensor:
        """Return zeros (B, 1, S / steps), or (B, 1, 1)."""
        x = first_input(given, named)
        sizes = [1] * (x.ndim - 2) if self.steps is None else _sizes(x, self.steps)
        return torch.zeros([x.shape[0], 1, *sizes], dtype=x.dtype, device=x.device)


class BranchConstant(nn.Module):
    """Return one number for each channel in place of what a branch adds.

    Args:
        constant: The numbers, (C,).
        rank: Axes of what the branch adds.
        steps: Positions of the module's input for each of the output, by axis; None returns a single position
            of a single example, which an addition broadcasts.
    """

    def __init__(self, constant: Tensor, rank: int, steps: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.bias = nn.Parameter(constant.detach().clone())
        self.rank, self.steps = rank, steps

    def forward(self, *given: Any, **named: Any) -> Tensor:
        """Return (1, C, 1), or (B, C, S / steps) in memory of its own."""
        x = first_input(given, named)
        constant = self.bias.to(x.dtype).view(1, -1, *[1] * (self.rank - 2))
        if self.steps is None:
            return constant
        return constant.expand(x.shape[0], -1, *_sizes(x, self.steps)).clone()


def _sizes(x: Tensor, steps: tuple[int, ...]) -> list[int]:
    """Return the sizes of the further axes of what a padded convolution with such steps computes."""
    return [-(-size // step) for size, step in zip(x.shape[2:], steps, strict=True)]
