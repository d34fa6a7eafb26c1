"""A small network with what quantisation has to tell apart, and what its tests need."""

from __future__ import annotations

import importlib.util

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.made import forward_of

needs_torchao = pytest.mark.skipif(
    importlib.util.find_spec("torchao") is None,
    reason="torchao is the extra 'quantize': pip install 'secateur[quantize]'",
)


def residual() -> nn.Module:
    """A convolution, a block with a shortcut, and a linear layer."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        x = F.relu(self.bn0(self.stem(x)))
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return self.head(F.relu(x + y).mean((2, 3)))

    torch.manual_seed(0)
    return forward_of(
        forward,
        stem=nn.Conv2d(1, 8, 3, padding=1), bn0=nn.BatchNorm2d(8),
        conv1=nn.Conv2d(8, 12, 3, padding=1, bias=False), bn1=nn.BatchNorm2d(12),
        conv2=nn.Conv2d(12, 8, 3, padding=1, bias=False), bn2=nn.BatchNorm2d(8),
        head=nn.Linear(8, 10),
    ).eval()  # fmt: skip
