"""The networks of LeCun et al. 1998 on which papers about sparse weights report.

Shapes: B images, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

from torch import nn

SIDE = 28
"""Height and width of the images, pixels."""


def lenet300(num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """Build LeNet-300-100, a multi-layer perceptron of 267 thousand parameters: (B, C, 28, 28) -> (B, K)."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_channels * SIDE**2, 300),
        nn.ReLU(),
        nn.Linear(300, 100),
        nn.ReLU(),
        nn.Linear(100, num_classes),
    )


def lenet5(num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """Build LeNet-5 as in Caffe, as Han et al. 2015 prune it: (B, C, 28, 28) -> (B, K)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 20, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(50 * 4 * 4, 500),
        nn.ReLU(),
        nn.Linear(500, num_classes),
    )
