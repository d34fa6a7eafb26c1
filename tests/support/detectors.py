"""Detectors in small: heads shared among levels, priors, heat maps, weighted pyramids.

Shapes: B examples, C channels, H and W pixels, A anchors, N boxes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.networks import Architecture
from support.yolos import C3, ConvUnit, grid_of, yolos


class BasicBlock(nn.Module):
    """Two convolutions beside an identity or a projection (He et al. 2016, arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + identity)


class Backbone(nn.Module):
    """A thin ResNet that gives back the outputs of its last three stages."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.stem = ConvUnit(3, w, 3, 2)
        self.stages = nn.ModuleList(
            BasicBlock(i, o, 2) for i, o in ((w, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        x, found = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found[1:]


class FeaturePyramid(nn.Module):
    """Lateral convolutions, a way down, and two more levels (Lin et al. 2017, arXiv 1612.03144)."""

    def __init__(self, channels: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.inner = nn.ModuleList(nn.Conv2d(c, outputs, 1) for c in channels)
        self.outer = nn.ModuleList(nn.Conv2d(outputs, outputs, 3, padding=1) for _ in channels)
        self.extra = nn.Conv2d(channels[-1], outputs, 3, 2, 1)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        last = self.inner[-1](levels[-1])
        found = [self.outer[-1](last)]
        for i in range(len(levels) - 2, -1, -1):
            up = F.interpolate(last, size=levels[i].shape[-2:], mode="nearest")
            last = self.inner[i](levels[i]) + up
            found.insert(0, self.outer[i](last))
        return [*found, self.extra(levels[-1])]


class RetinaNet(nn.Module):
    """One head for all levels (Lin et al. 2017, arXiv 1708.02002)."""

    def __init__(self, width: int = 8, classes: int = 4, anchors: int = 3) -> None:
        super().__init__()
        self.classes, channels = classes, 2 * width
        self.body = Backbone(width)
        self.fpn = FeaturePyramid((2 * width, 4 * width, 8 * width), channels)
        self.labels = self._head(channels, classes * anchors)
        self.boxes = self._head(channels, 4 * anchors)
        last = self.labels[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias, -math.log((1 - 0.01) / 0.01))

    @staticmethod
    def _head(channels: int, outputs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
        return nn.Sequential(*layers, nn.Conv2d(channels, outputs, 3, padding=1))

    def _flat(self, x: Tensor, numbers: int) -> Tensor:
        b, _, h, w = x.shape
        return x.view(b, -1, numbers, h, w).permute(0, 3, 4, 1, 2).reshape(b, -1, numbers)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        levels = self.fpn(self.body(x))
        labels = [self._flat(self.labels(level), self.classes) for level in levels]
        boxes = [self._flat(self.boxes(level), 4) for level in levels]
        return {"cls_logits": torch.cat(labels, 1), "bbox_regression": torch.cat(boxes, 1)}


class Scale(nn.Module):
    """A learned number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class FCOS(nn.Module):
    """Towers with group norm, a scale a level, centredness (Tian et al. 2019, arXiv 1904.01355)."""

    def __init__(self, width: int = 8, classes: int = 4) -> None:
        super().__init__()
        channels = 2 * width
        self.body = Backbone(width)
        self.fpn = FeaturePyramid((2 * width, 4 * width, 8 * width), channels)
        self.label_tower, self.box_tower = self._tower(channels), self._tower(channels)
        self.label = nn.Conv2d(channels, classes, 3, padding=1)
        self.box = nn.Conv2d(channels, 4, 3, padding=1)
        self.centre = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in range(4))

    @staticmethod
    def _tower(channels: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(4, channels), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        labels, boxes, centres = [], [], []
        for scale, level in zip(self.scales, self.fpn(self.body(x)), strict=True):
            tower = self.box_tower(level)
            labels.append(self.label(self.label_tower(level)))
            boxes.append(F.relu(scale(self.box(tower))))
            centres.append(self.centre(tower))
        return labels, boxes, centres


class UnitNorm(nn.Module):
    """Channels scaled to length one, then by learned weights (SSD's layer for its first map)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(20.0 * torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        norm = x.pow(2).sum(dim=1, keepdim=True).sqrt() + 1e-10
        return self.weight.view(1, -1, 1, 1) * torch.div(x, norm)


class SSD(nn.Module):
    """A VGG with more layers behind, heads on each map, priors in a buffer (Liu et al., arXiv 1512.02325)."""

    priors: Tensor

    def __init__(self, width: int = 8, classes: int = 4) -> None:
        super().__init__()
        w, self.classes = width, classes
        self.vgg = nn.ModuleList(
            nn.Sequential(*self._pair(i, o), nn.MaxPool2d(2, ceil_mode=True))
            for i, o in ((3, w), (w, 2 * w), (2 * w, 4 * w))
        )
        self.dilated = nn.Sequential(nn.Conv2d(4 * w, 8 * w, 3, padding=6, dilation=6), nn.ReLU(inplace=True))
        self.extra = nn.Sequential(
            nn.Conv2d(8 * w, 2 * w, 1), nn.ReLU(), nn.Conv2d(2 * w, 4 * w, 3, 2, 1), nn.ReLU()
        )
        self.norm = UnitNorm(4 * w)
        maps = (4 * w, 8 * w, 4 * w)
        self.loc = nn.ModuleList(nn.Conv2d(c, 4 * 4, 3, padding=1) for c in maps)
        self.conf = nn.ModuleList(nn.Conv2d(c, 4 * classes, 3, padding=1) for c in maps)
        self.register_buffer("priors", torch.rand(4 * (64 + 64 + 16), 4))

    @staticmethod
    def _pair(inputs: int, outputs: int) -> list[nn.Module]:
        first, second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        return [first, nn.ReLU(inplace=True), second, nn.ReLU(inplace=True)]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for stage in self.vgg:
            x = stage(x)
        maps = [self.norm(x), self.dilated(x)]
        maps.append(self.extra(maps[-1]))
        loc = [head(y).permute(0, 2, 3, 1).contiguous() for head, y in zip(self.loc, maps, strict=True)]
        conf = [head(y).permute(0, 2, 3, 1).contiguous() for head, y in zip(self.conf, maps, strict=True)]
        places = torch.cat([y.view(y.size(0), -1) for y in loc], 1)
        scores = torch.cat([y.view(y.size(0), -1) for y in conf], 1)
        places, scores = places.view(x.size(0), -1, 4), scores.view(x.size(0), -1, self.classes)
        return places, scores if self.training else F.softmax(scores, -1), self.priors


class CenterNet(nn.Module):
    """Deconvolutions and a head for each map; peaks by pooling in evaluation (arXiv 1904.07850)."""

    def __init__(self, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        self.body = Backbone(width)
        layers: list[nn.Module] = []
        channels = 8 * width
        for outputs in (4 * width, 2 * width):
            layers += [nn.ConvTranspose2d(channels, outputs, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
            channels = outputs
        self.deconv = nn.Sequential(*layers)
        self.heads = {"hm": classes, "wh": 2, "reg": 2}
        for name, outputs in self.heads.items():
            layers = [nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(16, outputs, 1)]
            self.__setattr__(name, nn.Sequential(*layers))

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        x = self.deconv(self.body(x)[-1])
        found = {name: self.__getattr__(name)(x) for name in self.heads}
        if not self.training:
            heat = found["hm"].sigmoid_()
            found["hm"] = heat * (F.max_pool2d(heat, 3, 1, 1) == heat).to(heat.dtype)
        return [found]


class Focus(nn.Module):
    """Four shifted images of half the size, stacked (YOLOX)."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = ConvUnit(12, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        parts = (x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2])
        return self.conv(torch.cat(parts, dim=1))


class YOLOX(nn.Module):
    """A head of two branches, decoded on a grid (Ge et al. 2021, arXiv 2107.08430)."""

    def __init__(self, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        w, self.hw = width, [(0, 0)]
        self.stem = nn.Sequential(Focus(w), ConvUnit(w, 2 * w, 3, 2), C3(2 * w, 2 * w))
        self.deep = nn.Sequential(ConvUnit(2 * w, 4 * w, 3, 2), C3(4 * w, 4 * w))
        self.stems = nn.ModuleList(ConvUnit(c, 2 * w) for c in (2 * w, 4 * w))
        self.label_convs = nn.ModuleList(ConvUnit(2 * w, 2 * w, 3) for _ in range(2))
        self.box_convs = nn.ModuleList(ConvUnit(2 * w, 2 * w, 3) for _ in range(2))
        self.labels = nn.ModuleList(nn.Conv2d(2 * w, classes, 1) for _ in range(2))
        self.boxes = nn.ModuleList(nn.Conv2d(2 * w, 4, 1) for _ in range(2))
        self.objects = nn.ModuleList(nn.Conv2d(2 * w, 1, 1) for _ in range(2))
        self.strides = (4, 8)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        one, outputs = self.stem(x), []
        for i, level in enumerate((one, self.deep(one))):
            level = self.stems[i](level)
            box = self.box_convs[i](level)
            label = self.labels[i](self.label_convs[i](level))
            if not self.training:
                label = label.sigmoid()
            outputs.append(torch.cat([self.boxes[i](box), self.objects[i](box).sigmoid(), label], 1))
        if self.training:
            return outputs
        self.hw = [(y.shape[2], y.shape[3]) for y in outputs]
        flat = torch.cat([y.flatten(start_dim=2) for y in outputs], dim=2).permute(0, 2, 1)
        return self._decoded(flat)

    def _decoded(self, flat: Tensor) -> Tensor:
        grids = torch.cat([grid_of(h, w, flat).view(1, -1, 2) for h, w in self.hw], 1)
        strides = torch.cat(
            [torch.full((1, h * w, 1), s) for (h, w), s in zip(self.hw, self.strides, strict=True)], 1
        ).to(flat)
        flat[..., :2] = (flat[..., :2] + grids) * strides
        flat[..., 2:4] = torch.exp(flat[..., 2:4]) * strides
        return flat


class WeightedPyramid(nn.Module):
    """One layer of EfficientDet's pyramid: positive weights that sum to one (arXiv 1911.09070)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(3, 3))
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
                nn.Conv2d(channels, channels, 1),
                nn.BatchNorm2d(channels),
            )
            for _ in range(3)
        )

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        weights = F.relu(self.weights)
        weights = weights / (weights.sum(0) + 1e-4)
        one, two, three = levels
        middle = weights[0, 0] * two + weights[1, 0] * F.interpolate(three, scale_factor=2, mode="nearest")
        middle = self.convs[0](F.silu(middle))
        first = weights[0, 1] * one + weights[1, 1] * F.interpolate(middle, scale_factor=2, mode="nearest")
        first = self.convs[1](F.silu(first))
        middle = weights[0, 2] * two + weights[1, 2] * middle + weights[2, 2] * F.max_pool2d(first, 3, 2, 1)
        return [first, self.convs[2](F.silu(middle)), three]


class EfficientDet(nn.Module):
    """Weighted pyramids, and heads that share convolutions but not batch norms among the levels."""

    def __init__(self, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        w, self.classes = width, classes
        self.body = Backbone(w)
        self.inner = nn.ModuleList(ConvUnit(c, 2 * w) for c in (2 * w, 4 * w, 8 * w))
        self.pyramid = nn.Sequential(WeightedPyramid(2 * w), WeightedPyramid(2 * w))
        self.shared = nn.ModuleList(nn.Conv2d(2 * w, 2 * w, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.ModuleList(nn.BatchNorm2d(2 * w) for _ in range(3)) for _ in range(2))
        self.head = nn.Conv2d(2 * w, 3 * classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        levels = [inner(level) for inner, level in zip(self.inner, self.body(x), strict=True)]
        found = []
        for i, level in enumerate(self.pyramid(levels)):
            for conv, norms in zip(self.shared, self.norms, strict=True):
                level = F.silu(norms[i](conv(level)))
            y = self.head(level).permute(0, 2, 3, 1)
            found.append(y.contiguous().view(y.shape[0], y.shape[1], y.shape[2], 3, self.classes))
        return torch.cat([y.contiguous().view(x.shape[0], -1, self.classes) for y in found], 1)


def detectors() -> list[Architecture]:
    """List all detectors."""
    own = (RetinaNet, FCOS, SSD, CenterNet, YOLOX, EfficientDet)
    return [*yolos(), *(Architecture(build.__name__.lower(), build) for build in own)]
