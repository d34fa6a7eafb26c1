"""Networks of the pruning literature for 32x32 images, which torchvision does not have.

Shapes: B images, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RESNET_DEPTHS = (20, 32, 44, 56, 110)

# Configuration D of Simonyan and Zisserman 2015 (arXiv 1409.1556), table 1; "M" is a 2x2 max pooling.
_VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


class ShortcutA(nn.Module):
    """Take every second pixel and pad the channels with zeros (option A, no parameters).

    Args:
        padding: Number of zero channels on each side.
    """

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Halve the size and widen: (B, C, H, W) -> (B, C + 2 * padding, H / 2, W / 2)."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, arXiv 1512.03385, section 4.2).

    Args:
        in_planes: Number of input channels.
        planes: Number of output channels.
        stride: 1, or 2 in the first block of a stage, which halves the size.
    """

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Identity() if stride == 1 else ShortcutA((planes - in_planes) // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Add the two convolutions to the shortcut."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class CifarResNet(nn.Module):
    """The ResNet for CIFAR of He et al. 2016 (arXiv 1512.03385, section 4.2), with option A shortcuts.

    The names of its parameters are those of the checkpoints published by akamaster/pytorch_resnet_cifar10.

    Args:
        depth: Number of layers, 6 n + 2: 20, 32, 44, 56, 110.
        num_classes: Number of classes, K.
        in_channels: Channels of the images.

    Raises:
        ValueError: If the depth is not 6 n + 2.
    """

    def __init__(self, depth: int, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"a CIFAR ResNet has 6 n + 2 layers (8, 14, 20, ...), not {depth}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, 1)
        self.layer2 = _stage(16, 32, blocks, 2)
        self.layer3 = _stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Classify: (B, C, H, W) -> (B, K)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(out, 1), 1))


class CifarVGG16(nn.Module):
    """VGG-16 with batch-norm and a single linear layer, as pruning papers use it on CIFAR.

    ``features`` is that of torchvision's ``vgg16_bn``.

    Args:
        num_classes: Number of classes, K.
        in_channels: Channels of the images.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in _VGG16:
            if isinstance(width, str):
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(True)]
                in_channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(512, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Classify: (B, C, 32, 32) -> (B, K).

        Raises:
            ValueError: If the images are smaller than 32x32, or 64 or more pixels high or wide.
        """
        height, width = x.shape[-2:]
        if not (32 <= height < 64 and 32 <= width < 64):
            raise ValueError(
                f"vgg16 is for images of 32x32 pixels, got {height}x{width}: resize them to an image size "
                "of 32, or use torchvision.models:vgg16 for larger ones"
            )
        return self.classifier(torch.flatten(self.features(x), 1))


def _stage(in_planes: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [BasicBlock(planes, planes, 1) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(in_planes, planes, stride), *rest)
