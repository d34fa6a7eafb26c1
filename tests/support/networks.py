"""Small networks with the parts that pruners stumble over, and lists of published ones.

Shapes: B examples, C channels, H and W pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, weight_norm

from secateur.envs.models import get_model
from secateur.envs.models.segnet import SegNet
from secateur.envs.modules.reparametrization import remove_reparametrizations


@dataclass(frozen=True)
class Architecture:
    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = (3, 64, 64)
    more: tuple[tuple[int, ...], ...] = field(default=())
    """Shapes of further inputs."""

    def model(self, seed: int = 0) -> nn.Module:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            return self.build()

    def example(self, batch: int = 2) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(1)
        return tuple(torch.randn(batch, *shape, generator=generator) for shape in (self.shape, *self.more))


class UNet(nn.Module):
    """Encoder and decoder joined by concatenation (Ronneberger et al. 2015, arXiv 1505.04597)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down1, self.down2 = self._block(3, width), self._block(width, 2 * width)
        self.bottom = self._block(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.merge2 = self._block(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.merge1 = self._block(2 * width, width)
        self.head = nn.Conv2d(width, 2, 1)

    @staticmethod
    def _block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        x = self.up2(self.bottom(F.max_pool2d(two, 2)))
        x = self.up1(self.merge2(torch.cat([two, x], 1)))
        return self.head(self.merge1(torch.cat([one, x], 1)))


class DCGANGenerator(nn.Sequential):
    """Transposed convolutions from a code to an image (Radford et al. 2016, arXiv 1511.06434)."""

    def __init__(self, width: int = 8, code: int = 10) -> None:
        super().__init__(
            nn.ConvTranspose2d(code, 4 * width, 4, 1, 0, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.ReLU(True),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(True),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(True),
            nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False),
            nn.Tanh(),
        )


class DCGANDiscriminator(nn.Sequential):
    def __init__(self, width: int = 8) -> None:
        super().__init__(
            nn.Conv2d(3, width, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(4 * width, 1, 4, 1, 0, bias=False),
            nn.Flatten(),
        )


class NormsAndSlopes(nn.Module):
    """GroupNorm with several groups and with one, InstanceNorm with and without parameters, PReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.groups = nn.GroupNorm(4, 16)
        self.slope = nn.PReLU(16)
        self.conv2 = nn.Conv2d(16, 12, 3, padding=1)
        self.instance = nn.InstanceNorm2d(12, affine=True, track_running_stats=True)
        self.conv3 = nn.Conv2d(12, 10, 3, padding=1)
        self.plain_instance = nn.InstanceNorm2d(10)
        self.conv4 = nn.Conv2d(10, 8, 3, padding=1)
        self.one_group = nn.GroupNorm(1, 8)
        self.drop = nn.Dropout2d(0.3)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.slope(self.groups(self.conv1(x)))
        x = F.relu(self.instance(self.conv2(x)))
        x = self.drop(F.elu(self.plain_instance(self.conv3(x))))
        x = F.gelu(self.one_group(self.conv4(x)))
        return self.head(x.mean((2, 3)))


class WeightNorms(nn.Module):
    """Weight normalisation in torch's old and new way: pinned, and the convolutions around it free."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.middle = nn.Conv2d(12, 12, 3, padding=1)
        self.new = parametrizations.weight_norm(nn.Conv2d(12, 10, 3, padding=1))
        self.after = nn.Conv2d(10, 12, 3, padding=1)
        self.old = weight_norm(nn.Conv2d(12, 8, 3, padding=1))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.new(F.relu(self.middle(F.relu(self.stem(x))))))
        return self.head(F.relu(self.old(F.relu(self.after(x)))).mean((2, 3)))


class MaskedWeights(nn.Module):
    """Weights under masks of torch.nn.utils.prune."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = prune.random_unstructured(nn.Conv2d(3, 12, 3, padding=1), "weight", 0.3)
        self.conv2 = prune.random_unstructured(nn.Conv2d(12, 10, 3, padding=1), "weight", 0.3)
        self.head = prune.random_unstructured(nn.Linear(10, 4), "weight", 0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv2(F.relu(self.conv1(x)))).mean((2, 3)))


class SharedTwice(nn.Module):
    """One convolution used twice in a row, so its filters are its own input channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.shared = nn.Conv2d(12, 12, 3, padding=1)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.shared(F.relu(self.shared(F.relu(self.stem(x))))))
        return self.head(x.mean((2, 3)))


class TiedWeights(nn.Module):
    """One parameter in two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.one, self.other = nn.Conv2d(12, 10, 3, padding=1), nn.Conv2d(12, 10, 3, padding=1)
        self.other.weight = self.one.weight
        self.head = nn.Conv2d(20, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return self.head(torch.cat([F.relu(self.one(x)), torch.sigmoid(self.other(x))], 1))


class Conv1dNet(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv1d(2, 12, 5, padding=2),
            nn.BatchNorm1d(12),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(12, 16, 5, padding=2, groups=2),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(4),
            nn.Flatten(),
            nn.Linear(64, 5),
        )


class Conv3dNet(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv3d(1, 8, 3, padding=1),
            nn.BatchNorm3d(8),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.Conv3d(8, 12, 3, padding=1),
            nn.BatchNorm3d(12),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(12, 3),
        )


class TwoInTwoOut(nn.Module):
    """An image and a vector in, a class and a map out; the vector scales the image's channels."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, 12, 3, padding=1)
        self.vector = nn.Linear(5, 12)
        self.mix = nn.Conv2d(12, 10, 3, padding=1)
        self.label, self.map = nn.Linear(10, 4), nn.Conv2d(10, 1, 1)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        x = F.relu(self.image(x)) * torch.sigmoid(self.vector(y))[:, :, None, None]
        x = F.relu(self.mix(x))
        return {"label": self.label(x.mean((2, 3))), "map": self.map(x)}


class SizesByAttribute(nn.Module):
    """Forward code that reads its sizes from attributes, in five ways."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.parts, self.cells = 6, [6, 8], 7
        self.stem = nn.Conv2d(3, 14, 3, padding=1)
        self.even = nn.Conv2d(14, 12, 3, padding=1)
        self.kernel = nn.Parameter(torch.randn(10, 1, 3, 3))
        self.left, self.right = nn.Conv2d(6, 10, 1), nn.Conv2d(6, 10, 1)
        self.grouped = 10
        self.hidden = nn.Linear(10, 7 * 4)
        self.decode = nn.Unflatten(1, (7, 2, 2))
        self.head = nn.Conv2d(7, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.split(F.relu(self.stem(x)), self.parts, dim=1)
        x = F.relu(self.even(torch.cat([torch.tanh(a), b], 1)))
        x = self.left(x[:, : self.width]) + self.right(x[:, self.width :])
        x = F.conv2d(x, self.kernel, padding=1, groups=self.grouped)
        return self.head(F.relu(self.decode(self.hidden(x.mean((2, 3))))))


class HiddenSizes(nn.Module):
    """Forward code that computes its sizes from a shared configuration, a dict and a private attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(half=6, cells=4, width=12, classes=4)
        self.table, self._groups = {"sizes": (5, [7])}, 14
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.even, self.kernel = nn.Conv2d(12, 14, 3, padding=1), nn.Parameter(torch.randn(14, 1, 3, 3))
        self.one, self.other = nn.Conv2d(14, 5, 1), nn.Conv2d(14, 7, 1)
        self.fc = nn.Linear(12 * 4, self.config.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x)).view(x.shape[0], 2 * self.config.half, *x.shape[2:])
        x = F.conv2d(F.relu(self.even(x)), self.kernel, padding=1, groups=self._groups)
        x = F.relu(torch.cat([self.one(x), self.other(x)], 1))
        one, other = self.table["sizes"]
        x = torch.cat([x.narrow(1, one, other[0]), torch.tanh(x[:, :one])], 1)
        return self.fc(F.adaptive_avg_pool2d(x, 2).reshape(-1, (one + other[0]) * self.config.cells))


class LiteralSizes(nn.Module):
    """Numbers written into the forward code, which no cut can bring along."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 6, 3, padding=1)
        self.halves = nn.Conv2d(6, 12, 3, padding=1)
        self.conv3 = nn.Conv2d(6, 10, 3, padding=1)
        self.fc = nn.Linear(10 * 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.halves(F.relu(self.conv2(F.relu(self.conv1(x)))))
        x = F.relu(self.conv3(x[:, : x.shape[1] // 2] * torch.sigmoid(x[:, x.shape[1] // 2 :])))
        return self.fc(F.adaptive_avg_pool2d(x, 2).view(-1, 40))


class GroupedBothKinds(nn.Module):
    """Depthwise, many small groups, and few large groups, with a channel shuffle between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 32, 3, padding=1, groups=16)
        self.many = nn.Conv2d(32, 16, 3, padding=1, groups=8)
        self.few = nn.Conv2d(16, 24, 3, padding=1, groups=2)
        self.back = nn.ConvTranspose2d(24, 12, 2, 2, groups=2)
        self.each = nn.ConvTranspose2d(12, 12, 2, 2, groups=12)
        self.head = nn.Conv2d(12, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.many(F.relu(self.depthwise(F.relu(self.stem(x))))))
        x = F.channel_shuffle(F.relu(self.few(x)), 2)
        return self.head(F.relu(self.each(F.relu(self.back(x)))))


OWN = [
    Architecture("demo", partial(get_model, "demo", num_classes=10, in_channels=3), (3, 16, 16)),
    Architecture(
        "cifar resnet20", partial(get_model, "resnet20", num_classes=10, in_channels=3), (3, 32, 32)
    ),
    Architecture("cifar vgg16", partial(get_model, "vgg16", num_classes=10, in_channels=3), (3, 32, 32)),
    Architecture("unet", UNet, (3, 16, 16)),
    Architecture("dcgan generator", DCGANGenerator, (10, 1, 1)),
    Architecture("dcgan discriminator", DCGANDiscriminator, (3, 32, 32)),
    Architecture("norms and slopes", NormsAndSlopes, (3, 8, 8)),
    Architecture("weight norms", WeightNorms, (3, 8, 8)),
    Architecture("baked weight norms", lambda: remove_reparametrizations(WeightNorms()), (3, 8, 8)),
    Architecture("masked weights", MaskedWeights, (3, 8, 8)),
    Architecture("shared twice", SharedTwice, (3, 8, 8)),
    Architecture("tied weights", TiedWeights, (3, 8, 8)),
    Architecture("conv1d", Conv1dNet, (2, 32)),
    Architecture("conv3d", Conv3dNet, (1, 8, 8, 8)),
    Architecture("two in two out", TwoInTwoOut, (3, 8, 8), ((5,),)),
    Architecture("sizes by attribute", SizesByAttribute, (3, 8, 8)),
    Architecture("hidden sizes", HiddenSizes, (3, 8, 8)),
    Architecture("literal sizes", LiteralSizes, (3, 8, 8)),
    Architecture("grouped both kinds", GroupedBothKinds, (3, 8, 8)),
    Architecture("segnet", partial(SegNet, 5, 3, width=4), (3, 33, 47)),
]
