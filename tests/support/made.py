"""Networks made of a function and what it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
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


class LostSize(nn.Module):
    """Forward code that loses the way of a number of channels, beside many numbers of the same value."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 16, 3), nn.Linear(16 * 9, 7)
        self.others, self.words = [16] * 9, {"dim": 16, "cells": 9}

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.conv(x / sum(self.others)), 3)
        return self.fc(x.view(-1, 9 * len("." * self.words["dim"])))
