"""The demo network: small enough for 8x8 digits on two cores, with the couplings of real CNNs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNorm(nn.Sequential):
    """A convolution without bias, followed by batch-norm.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of filters.
        kernel: Kernel size, pixels, odd.
        stride: Stride, pixels.
        groups: Groups of the convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out_channels),
        )


class ResidualBlock(nn.Module):
    """Two convolutions and an identity shortcut, which couples the filters of several layers.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels)
        self.conv2 = ConvNorm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, C, H, W)."""
        return F.relu(x + self.conv2(F.relu(self.conv1(x))))


class DemoNet(nn.Module):
    """A CNN with the couplings that a pruner has to respect, 2.8 M MACs on an 8x8 image.

    It has two residual blocks, which couple layers, and a strided convolution between them. It has a
    depthwise-separable convolution, whose channels map one to one. A linear layer follows a flatten, so that
    one channel is a block of columns of its weight.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the images.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.stem = ConvNorm(in_channels, 32)
        self.block1 = ResidualBlock(32)
        self.down = ConvNorm(32, 64, stride=2)
        self.block2 = ResidualBlock(64)
        self.depthwise = ConvNorm(64, 64, groups=64)
        self.pointwise = ConvNorm(64, 96, kernel=1)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.hidden = nn.Linear(96 * 4, 64)
        self.classifier = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify: (B, C, H, W) -> (B, K)."""
        x = self.block1(F.relu(self.stem(x)))
        x = self.block2(F.relu(self.down(x)))
        x = F.relu(self.pointwise(F.relu(self.depthwise(x))))
        x = torch.flatten(self.pool(x), 1)
        return self.classifier(F.relu(self.hidden(x)))
