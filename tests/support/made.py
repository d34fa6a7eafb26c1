"""Networks made of a function and what it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def forward_of(function: Callable[..., Tensor], **parts: Any) -> nn.Module:
    """Make a network whose forward function is ``function(self, x)``."""

    class Made(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

        def forward(self, x: Tensor) -> Tensor:
            return function(self, x)

    return Made()


def conv(inputs: int, filters: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, filters, 3, padding=1, groups=groups)
