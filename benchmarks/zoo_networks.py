"""Small networks of many families for 32x32 pixels: what an agent is trained on, and what it never sees.

    python benchmarks/zoo_dense.py --data cifar10=cifar10-folder --out zoo

trains them; see there. Most are torchvision's own classes and blocks with few channels. Most halve the
size in their first layer. Each has 1 to 12 million MACs, so that a core trains it in minutes.
"""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.models import DenseNet, EfficientNet, MobileNetV2, ShuffleNetV2
from torchvision.models.efficientnet import MBConvConfig
from torchvision.models.googlenet import Inception
from torchvision.models.regnet import BlockParams, RegNet
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.vgg import make_layers
from torchvision.ops import Conv2dNormActivation, SqueezeExcitation

from secateur.envs.models.cifar import CifarResNet

TRAINING_FAMILIES: dict[str, tuple[str, ...]] = {
    "ResNet": ("resnet8", "resnet14"),
    "ResNet, bottleneck": ("bottleneck20",),
    "plain": ("plain6", "plain9"),
    "VGG": ("vgg8",),
    "MobileNetV1": ("mobilenet1",),
    "MobileNetV2": ("mobilenet2", "mobilenet2_wide"),
    "ShuffleNetV1": ("shufflenet1",),
    "ShuffleNetV2": ("shufflenet2",),
    "DenseNet": ("densenet16", "densenet22"),
    "GoogLeNet": ("googlenet4",),
}
"""Networks on which an agent is trained, by family."""

HELD_OUT_FAMILIES: dict[str, tuple[str, ...]] = {
    "RegNet": ("regnetx",),
    "SqueezeNet": ("squeezenet",),
    "ResNeXt": ("resnext",),
    "SE-ResNet": ("seresnet",),
    "EfficientNet": ("efficientnet",),
}
"""Networks of families that an agent does not see in its training."""

TRAINING: tuple[tuple[str, str], ...] = tuple(
    (networks[number], data)
    for number in (0, 1)
    for networks in TRAINING_FAMILIES.values()
    if number < len(networks)
    for data in ("cifar10", "mnist")
)
"""Networks and data on which an agent is trained, the first network of each family first."""

HELD_OUT: tuple[tuple[str, str], ...] = (
    *((network, data) for (network,) in HELD_OUT_FAMILIES.values() for data in ("cifar10", "camvid")),
    *((network, "camvid") for network in ("resnet8", "vgg8", "mobilenet2", "densenet16", "googlenet4")),
)
"""Networks and data on which it is judged: families, data or both are new to it."""


def resnet8(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build the smallest CIFAR ResNet: shortcuts padded with zeros (He et al. 2016, arXiv 1512.03385)."""
    return CifarResNet(8, num_classes, in_channels)


def resnet14(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build a ResNet of 14 layers with projections (He et al. 2016, option B)."""
    return residual(BasicBlock, (8, 16, 32), 2, num_classes, in_channels)


def bottleneck20(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build a ResNet of six bottlenecks (He et al. 2016, figure 5)."""
    return residual(Bottleneck, (8, 16, 32), 2, num_classes, in_channels, stem=16, stride=2)


def resnext(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build a ResNeXt of six blocks of four groups (Xie et al. 2017, arXiv 1611.05431)."""
    grouped = partial(Bottleneck, groups=4, base_width=64)
    return residual(grouped, (4, 8, 16), 2, num_classes, in_channels, stem=16, stride=2)


def seresnet(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build a ResNet with squeeze-and-excitation (Hu et al. 2018, arXiv 1709.01507)."""
    return residual(ExcitedBlock, (20, 40, 72), 1, num_classes, in_channels, stride=2)


def plain6(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build six convolutions that halve the size by strides, without shortcuts."""
    strides = {12: 1, 16: 1, 24: 2, 40: 1, 64: 2, 80: 1}
    return sequential(in_channels, strides, num_classes)


def plain9(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build nine narrow convolutions that halve the size three times, without shortcuts."""
    strides = {8: 1, 12: 1, 20: 2, 24: 1, 32: 1, 40: 2, 56: 1, 72: 2, 88: 1}
    return sequential(in_channels, strides, num_classes)


def vgg8(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build a VGG of six convolutions and two linear layers (Simonyan and Zisserman, arXiv 1409.1556)."""
    features = make_layers([16, "M", 32, 32, "M", 64, 64, "M", 96, "M"], batch_norm=True)
    features[0] = nn.Conv2d(in_channels, 16, 3, padding=1)
    head = (nn.Flatten(), nn.Linear(96 * 4, 96), nn.ReLU(), nn.Dropout(0.2), nn.Linear(96, num_classes))
    return nn.Sequential(features, *head)


def mobilenet1(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build a MobileNet: depthwise and 1x1 convolutions in turn (Howard et al. 2017, arXiv 1704.04861)."""
    layers: list[nn.Module] = [conv(in_channels, 16, stride=2)]
    width = 16
    for out, stride in ((32, 1), (64, 2), (64, 1), (96, 1), (128, 2), (128, 1)):
        layers += [conv(width, width, stride=stride, groups=width), conv(width, out, kernel_size=1)]
        width = out
    return nn.Sequential(*layers, *classifier(width, num_classes))


def mobilenet2(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build a narrow MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381)."""
    return inverted([[1, 12, 1, 1], [4, 16, 2, 1], [4, 24, 2, 2], [4, 40, 2, 2]], num_classes, in_channels)


def mobilenet2_wide(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build a MobileNetV2 of fewer and wider blocks."""
    return inverted([[1, 16, 1, 1], [6, 24, 1, 2], [6, 40, 2, 2]], num_classes, in_channels)


def shufflenet1(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build a ShuffleNet of grouped 1x1 convolutions (Zhang et al. 2018, arXiv 1707.01083)."""
    blocks = [ShuffledBlock(width, stride) for width in (32, 64) for stride in (2, 1, 1)]
    return nn.Sequential(conv(in_channels, 32, stride=2), *blocks, *classifier(128, num_classes))


def shufflenet2(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build a ShuffleNetV2 (Ma et al. 2018, arXiv 1807.11164)."""
    network = ShuffleNetV2([3, 3, 1], [24, 64, 128, 160, 192], num_classes=num_classes)
    network.conv1 = conv(in_channels, 24, stride=2)
    network.maxpool = nn.Identity()
    return network


def densenet16(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build a DenseNet of three blocks of two layers (Huang et al. 2017, arXiv 1608.06993)."""
    return dense(16, 2, num_classes, in_channels)


def densenet22(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build a DenseNet of three blocks of three layers."""
    return dense(12, 3, num_classes, in_channels)


def googlenet4(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build a GoogLeNet of four inception modules (Szegedy et al. 2015, arXiv 1409.4842)."""
    return nn.Sequential(
        conv(in_channels, 16, stride=2),
        Inception(16, 8, 12, 16, 4, 8, 8),
        Inception(40, 12, 16, 24, 6, 12, 12),
        nn.MaxPool2d(2),
        Inception(60, 20, 24, 40, 8, 16, 16),
        Inception(92, 28, 32, 56, 10, 20, 20),
        *classifier(124, num_classes),
    )


def regnetx(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build a RegNetX of grouped bottlenecks (Radosavovic et al. 2020, arXiv 2003.13678)."""
    params = BlockParams([1, 2, 2], [24, 48, 80], [8, 8, 8], [1.0] * 3, [1, 2, 2])
    network = RegNet(params, num_classes, stem_width=16)
    network.stem = conv(in_channels, 16, stride=2)
    return network


def squeezenet(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build a SqueezeNet with batch-norm (Iandola et al. 2016, arXiv 1602.07360)."""
    fires = (Fire(24, 12, 20), Fire(40, 12, 24), nn.MaxPool2d(2), Fire(48, 16, 32), Fire(64, 20, 40))
    last = (nn.MaxPool2d(2), Fire(80, 24, 48), conv(96, 96, kernel_size=1))
    stem = (conv(in_channels, 24, stride=2),)
    return nn.Sequential(*stem, *fires, *last, *classifier(96, num_classes))


def efficientnet(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Build an EfficientNet, with squeeze-and-excitation (Tan and Le 2019, arXiv 1905.11946)."""
    settings = ((1, 16, 12, 1, 1), (4, 12, 20, 2, 2), (4, 20, 40, 2, 2))
    blocks = [
        MBConvConfig(expand, 3, stride, width, out, layers, 1.0, 1.0)
        for expand, width, out, layers, stride in settings
    ]
    network = EfficientNet(blocks, dropout=0.1, num_classes=num_classes, last_channel=128)
    network.features[0] = conv(in_channels, 16, stride=2, activation_layer=nn.SiLU)
    return network


conv = partial(Conv2dNormActivation, kernel_size=3)
"""A convolution, by default 3x3, with batch-norm and ReLU."""


def classifier(width: int, num_classes: int) -> tuple[nn.Module, ...]:
    """Return global average pooling and a linear layer."""
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)


def sequential(in_channels: int, strides: dict[int, int], num_classes: int) -> nn.Module:
    """Build a chain of convolutions from the stride of each width."""
    widths = [in_channels, *strides]
    layers = [conv(a, b, stride=strides[b]) for a, b in pairwise(widths)]
    return nn.Sequential(*layers, *classifier(widths[-1], num_classes))


def residual(
    block: type[nn.Module] | partial[nn.Module],
    planes: tuple[int, ...],
    blocks: int,
    num_classes: int,
    in_channels: int,
    stem: int | None = None,
    stride: int = 1,
) -> nn.Module:
    """Build a ResNet of torchvision's blocks, with projections where the shape changes."""
    expansion = (block.func if isinstance(block, partial) else block).expansion
    width = stem or planes[0]
    layers: list[nn.Module] = [conv(in_channels, width, stride=stride)]
    for number, own in enumerate(planes):
        for k in range(blocks):
            stride, out = (2 if number and not k else 1), own * expansion
            change = conv(width, out, kernel_size=1, stride=stride, activation_layer=None)
            layers.append(block(width, own, stride, change if (stride, width) != (1, out) else None))
            width = out
    return nn.Sequential(*layers, *classifier(width, num_classes))


class ExcitedBlock(BasicBlock):
    """A basic block whose channels are scaled by squeeze-and-excitation before the sum."""

    def __init__(self, inplanes: int, planes: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__(inplanes, planes, stride, downsample)
        self.bn2 = nn.Sequential(self.bn2, SqueezeExcitation(planes, max(4, planes // 4)))


def inverted(setting: list[list[int]], num_classes: int, in_channels: int) -> nn.Module:
    """Build a MobileNetV2 with a small head from expansion, width, blocks and stride of each stage."""
    network = MobileNetV2(num_classes, inverted_residual_setting=setting, round_nearest=4)
    network.features[0] = conv(in_channels, 32, stride=2, activation_layer=nn.ReLU6)
    network.features[-1] = conv(setting[-1][1], 128, kernel_size=1, activation_layer=nn.ReLU6)
    network.classifier[1] = nn.Linear(128, num_classes)
    return network


class ShuffledBlock(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; a shortcut, concatenated where the size is halved.

    Args:
        width: Number of input channels at stride 2, which the block doubles; half of them at stride 1.
        stride: 1 or 2.
    """

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        inputs, outputs = (width, width) if stride == 2 else (2 * width, 2 * width)
        middle = outputs // 2
        self.reduce = conv(inputs, middle, kernel_size=1, groups=2)
        self.shuffle = nn.ChannelShuffle(2)
        self.depthwise = conv(middle, middle, stride=stride, groups=middle, activation_layer=None)
        self.expand = conv(middle, outputs, kernel_size=1, groups=2, activation_layer=None)
        self.pool = nn.AvgPool2d(3, 2, 1) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        """Double the channels and halve the size, or keep both."""
        out = self.expand(self.depthwise(self.shuffle(self.reduce(x))))
        if self.pool is None:
            return torch.relu(x + out)
        return torch.relu(torch.cat([self.pool(x), out], 1))


def dense(growth: int, layers: int, num_classes: int, in_channels: int) -> nn.Module:
    """Build torchvision's DenseNet of three blocks, each layer a bottleneck of twice the growth."""
    network = DenseNet(growth, (layers,) * 3, 2 * growth, bn_size=2, num_classes=num_classes)
    network.features.conv0 = nn.Conv2d(in_channels, 2 * growth, 3, 2, 1, bias=False)
    network.features.pool0 = nn.Identity()
    return network


class Fire(nn.Module):
    """A 1x1 convolution, then 1x1 and 3x3 convolutions side by side.

    Args:
        width: Number of input channels.
        squeezed: Filters of the first convolution.
        expanded: Filters of each of the others; the outputs are concatenated.
    """

    def __init__(self, width: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = conv(width, squeezed, kernel_size=1)
        self.expand1 = conv(squeezed, expanded, kernel_size=1)
        self.expand3 = conv(squeezed, expanded)

    def forward(self, x: Tensor) -> Tensor:
        """Squeeze, expand and concatenate."""
        squeezed = self.squeeze(x)
        return torch.cat([self.expand1(squeezed), self.expand3(squeezed)], 1)
