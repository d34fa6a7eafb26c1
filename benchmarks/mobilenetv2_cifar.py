"""MobileNetV2 for images of 32x32 pixels.

    python benchmarks/dense.py mobilenetv2_cifar:mobilenetv2 --data cifar10-folder --epochs 200
    --learning-rate 0.1 --out mobilenetv2-cifar10.safetensors

trains it; the same command goes on where it was stopped.
"""

from torch import nn
from torchvision.models import MobileNetV2

STAGES = [
    [1, 16, 1, 1],
    [6, 24, 2, 1],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
]
"""Expansion, width, blocks and stride of each stage (Sandler et al. 2018, arXiv 1801.04381, table 2), with
stride 1 in the second, as is customary for CIFAR."""


def mobilenetv2(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build torchvision's MobileNetV2 with a first convolution of stride 1 and without dropout."""
    model = MobileNetV2(num_classes, inverted_residual_setting=STAGES, dropout=0.0)
    stem = model.features[0]
    assert isinstance(stem, nn.Sequential)
    stem[0] = nn.Conv2d(in_channels, 32, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(stem[0].weight, mode="fan_out")
    return model
