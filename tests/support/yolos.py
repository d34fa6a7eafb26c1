"""The YOLO family in small: blocks, necks, heads and decoders as its repositories build them.

Shapes: B examples, C channels, H and W pixels, A anchors, N boxes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.networks import Architecture

ANCHORS = [[4, 5, 8, 10, 13, 9], [16, 24, 30, 20, 28, 50], [50, 36, 60, 90, 100, 80]]
"""Widths and heights of three boxes for each of three levels, in pixels."""


class ConvUnit(nn.Sequential):
    """Convolution, batch norm, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.SiLU(inplace=True),
        )


def grid_of(height: int, width: int, like: Tensor) -> Tensor:
    """Return the (x, y) of each cell, (height, width, 2)."""
    rows = torch.arange(height, device=like.device, dtype=like.dtype)
    columns = torch.arange(width, device=like.device, dtype=like.dtype)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((x, y), 2)


class Residual(nn.Module):
    """A bottleneck of YOLOv5, added to its input where the widths allow."""

    def __init__(self, inputs: int, outputs: int, shortcut: bool = True) -> None:
        super().__init__()
        self.cv1, self.cv2 = ConvUnit(inputs, outputs), ConvUnit(outputs, outputs, 3)
        self.add = shortcut and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv2(self.cv1(x)) if self.add else self.cv2(self.cv1(x))


class C3(nn.Module):
    """Cross-stage partial block with three convolutions (YOLOv5)."""

    def __init__(self, inputs: int, outputs: int, depth: int = 1, shortcut: bool = True) -> None:
        super().__init__()
        hidden = int(outputs * 0.5)
        self.cv1, self.cv2 = ConvUnit(inputs, hidden), ConvUnit(inputs, hidden)
        self.cv3 = ConvUnit(2 * hidden, outputs)
        self.m = nn.Sequential(*(Residual(hidden, hidden, shortcut) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), dim=1))


class SPPF(nn.Module):
    """Three poolings in a row, their results concatenated (YOLOv5)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        hidden = inputs // 2
        self.cv1, self.cv2 = ConvUnit(inputs, hidden), ConvUnit(4 * hidden, outputs)
        self.m = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.cv1(x)]
        parts.extend(self.m(parts[-1]) for _ in range(3))
        return self.cv2(torch.cat(parts, 1))


class AnchorHead(nn.Module):
    """Head of YOLOv5: raw maps in training; boxes decoded in place, on grids kept from pass to pass, else."""

    anchors: Tensor

    def __init__(self, nc: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.nc, self.no = nc, nc + 5
        self.nl, self.na = len(ANCHORS), len(ANCHORS[0]) // 2
        self.stride = torch.tensor([4.0, 8.0, 16.0])
        self.grid = [torch.empty(0) for _ in range(self.nl)]
        self.anchor_grid = [torch.empty(0) for _ in range(self.nl)]
        self.register_buffer("anchors", torch.tensor(ANCHORS).float().view(self.nl, -1, 2))
        self.m = nn.ModuleList(nn.Conv2d(c, self.no * self.na, 1) for c in channels)

    def raw(self, x: list[Tensor], level: int) -> Tensor:
        return self.m[level](x[level])

    def forward(self, x: list[Tensor]) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        boxes = []
        for i in range(self.nl):
            x[i] = self.raw(x, i)
            b, _, ny, nx = x[i].shape
            x[i] = x[i].view(b, self.na, self.no, ny, nx).permute(0, 1, 3, 4, 2).contiguous()
            if self.training:
                continue
            if self.grid[i].shape[2:4] != x[i].shape[2:4]:
                self.grid[i] = grid_of(ny, nx, x[i]).view(1, 1, ny, nx, 2) - 0.5
                self.anchor_grid[i] = self.anchors[i].view(1, self.na, 1, 1, 2)
            y = x[i].sigmoid()
            y[..., 0:2] = (y[..., 0:2] * 2 + self.grid[i]) * self.stride[i]
            y[..., 2:4] = (y[..., 2:4] * 2) ** 2 * self.anchor_grid[i]
            boxes.append(y.view(b, -1, self.no))
        return x if self.training else (torch.cat(boxes, 1), x)


class YOLOv5(nn.Module):
    """C3 blocks, SPPF, and a path-aggregation neck."""

    def __init__(self, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(ConvUnit(3, w, 3, 2), ConvUnit(w, 2 * w, 3, 2), C3(2 * w, 2 * w))
        self.stage2 = nn.Sequential(ConvUnit(2 * w, 4 * w, 3, 2), C3(4 * w, 4 * w, 2))
        self.stage3 = nn.Sequential(ConvUnit(4 * w, 8 * w, 3, 2), C3(8 * w, 8 * w), SPPF(8 * w, 8 * w))
        self.lateral3, self.lateral2 = ConvUnit(8 * w, 4 * w), ConvUnit(4 * w, 2 * w)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.top2, self.top1 = C3(8 * w, 4 * w, shortcut=False), C3(4 * w, 2 * w, shortcut=False)
        self.down1, self.down2 = ConvUnit(2 * w, 2 * w, 3, 2), ConvUnit(4 * w, 4 * w, 3, 2)
        self.out2, self.out3 = C3(4 * w, 4 * w, shortcut=False), C3(8 * w, 8 * w, shortcut=False)
        self.detect = AnchorHead(classes, (2 * w, 4 * w, 8 * w))

    def forward(self, x: Tensor) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        one = self.stem(x)
        two = self.stage2(one)
        lateral3 = self.lateral3(self.stage3(two))
        lateral2 = self.lateral2(self.top2(torch.cat([self.up(lateral3), two], 1)))
        one = self.top1(torch.cat([self.up(lateral2), one], 1))
        two = self.out2(torch.cat([self.down1(one), lateral2], 1))
        three = self.out3(torch.cat([self.down2(two), lateral3], 1))
        return self.detect([one, two, three])


class ELAN(nn.Module):
    """Efficient layer aggregation: every second output of a chain is kept (YOLOv7)."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = ConvUnit(inputs, hidden), ConvUnit(inputs, hidden)
        self.chain = nn.ModuleList(ConvUnit(hidden, hidden, 3) for _ in range(4))
        self.last = ConvUnit(4 * hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.cv1(x), self.cv2(x)]
        for i, conv in enumerate(self.chain):
            x = conv(x if i else parts[-1])
            if i % 2:
                parts.append(x)
        return self.last(torch.cat(parts[::-1], 1))


class PoolAndStride(nn.Module):
    """Downsampling by pooling and by a stride, side by side (MP of YOLOv7)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.pooled = nn.Sequential(nn.MaxPool2d(2, 2), ConvUnit(channels, half))
        self.strided = nn.Sequential(ConvUnit(channels, half), ConvUnit(half, half, 3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.strided(x), self.pooled(x)], 1)


class SPPCSPC(nn.Module):
    """Spatial pyramid pooling in a cross-stage partial block (YOLOv7)."""

    def __init__(self, inputs: int, outputs: int, sizes: tuple[int, ...] = (5, 9, 13)) -> None:
        super().__init__()
        self.before = nn.Sequential(ConvUnit(inputs, outputs), ConvUnit(outputs, outputs, 3))
        self.pools = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in sizes)
        self.after = nn.Sequential(ConvUnit(4 * outputs, outputs), ConvUnit(outputs, outputs, 3))
        self.beside, self.last = ConvUnit(inputs, outputs), ConvUnit(2 * outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        y = self.after(torch.cat([y] + [pool(y) for pool in self.pools], 1))
        return self.last(torch.cat((y, self.beside(x)), 1))


class RepConv(nn.Module):
    """3x3, 1x1, and, where the widths allow, a batch norm alone, summed (RepVGG, arXiv 2101.03697)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.identity = nn.BatchNorm2d(inputs) if inputs == outputs else None
        self.dense = nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        self.point = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        identity = 0 if self.identity is None else self.identity(x)
        return self.act(self.dense(x) + self.point(x) + identity)


class ImplicitA(nn.Module):
    """Knowledge that is added (YOLOR, arXiv 2105.04206)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.implicit = nn.Parameter(0.02 * torch.randn(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.implicit + x


class ImplicitM(nn.Module):
    """Knowledge that is multiplied."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.implicit = nn.Parameter(1 + 0.02 * torch.randn(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.implicit * x


class ImplicitHead(AnchorHead):
    """YOLOv7's head: implicit knowledge before and after the last convolution."""

    def __init__(self, nc: int, channels: tuple[int, ...]) -> None:
        super().__init__(nc, channels)
        self.ia = nn.ModuleList(ImplicitA(c) for c in channels)
        self.im = nn.ModuleList(ImplicitM(self.no * self.na) for _ in channels)

    def raw(self, x: list[Tensor], level: int) -> Tensor:
        return self.im[level](self.m[level](self.ia[level](x[level])))


class YOLOv7(nn.Module):
    """ELAN blocks, pooling beside strides, re-parametrised convolutions, implicit knowledge."""

    def __init__(self, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        w = width
        self.stage1 = nn.Sequential(ConvUnit(3, w, 3, 2), ConvUnit(w, 2 * w, 3, 2), ELAN(2 * w, w, 4 * w))
        self.stage2 = nn.Sequential(PoolAndStride(4 * w), ELAN(4 * w, 2 * w, 8 * w))
        self.stage3 = nn.Sequential(
            PoolAndStride(8 * w), ELAN(8 * w, 2 * w, 8 * w), SPPCSPC(8 * w, 4 * w, (3, 5, 7))
        )
        self.reduce3, self.route2 = ConvUnit(4 * w, 2 * w), ConvUnit(8 * w, 2 * w)
        self.reduce2, self.route1 = ConvUnit(2 * w, w), ConvUnit(4 * w, w)
        self.up = nn.Upsample(None, 2, "nearest")
        self.top2, self.top1 = ELAN(4 * w, w, 2 * w), ELAN(2 * w, w, 2 * w)
        self.down1, self.down2 = PoolAndStride(2 * w), PoolAndStride(4 * w)
        self.out2, self.out3 = ELAN(4 * w, w, 4 * w), ELAN(8 * w, 2 * w, 4 * w)
        self.rep = nn.ModuleList(RepConv(i, o) for i, o in ((2 * w, 2 * w), (4 * w, 4 * w), (4 * w, 8 * w)))
        self.detect = ImplicitHead(classes, (2 * w, 4 * w, 8 * w))

    def forward(self, x: Tensor) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        one = self.stage1(x)
        two = self.stage2(one)
        three = self.stage3(two)
        two = self.top2(torch.cat([self.route2(two), self.up(self.reduce3(three))], 1))
        one = self.top1(torch.cat([self.route1(one), self.up(self.reduce2(two))], 1))
        two = self.out2(torch.cat([self.down1(one), two], 1))
        three = self.out3(torch.cat([self.down2(two), three], 1))
        return self.detect([rep(level) for rep, level in zip(self.rep, (one, two, three), strict=True)])


class Distribution(nn.Module):
    """Expectation over ``bins`` distances, by a frozen convolution (arXiv 2006.04388)."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        self.conv.weight.data[:] = torch.arange(bins).float().view(1, bins, 1, 1)
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        b, _, a = x.shape
        return self.conv(x.view(b, 4, self.bins, a).transpose(2, 1).softmax(1)).view(b, 4, a)


class C2f(nn.Module):
    """A chain that starts from half of the channels, everything concatenated (YOLOv8)."""

    def __init__(self, inputs: int, outputs: int, depth: int = 1) -> None:
        super().__init__()
        self.c = outputs // 2
        self.cv1 = ConvUnit(inputs, 2 * self.c)
        self.cv2 = ConvUnit((2 + depth) * self.c, outputs)
        self.m = nn.ModuleList(Residual(self.c, self.c) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


class YOLOv8(nn.Module):
    """Without anchors: boxes are expectations of distances to the four sides."""

    def __init__(self, width: int = 8, classes: int = 3, bins: int = 8) -> None:
        super().__init__()
        w = width
        self.nc, self.bins, self.no = classes, bins, classes + 4 * bins
        self.stem = nn.Sequential(ConvUnit(3, w, 3, 2), ConvUnit(w, 2 * w, 3, 2), C2f(2 * w, 2 * w))
        self.deep = nn.Sequential(ConvUnit(2 * w, 4 * w, 3, 2), C2f(4 * w, 4 * w, 2), SPPF(4 * w, 4 * w))
        self.merge = C2f(6 * w, 2 * w)
        self.box = nn.ModuleList(self._branch(c, 4 * bins) for c in (2 * w, 4 * w))
        self.label = nn.ModuleList(self._branch(c, classes) for c in (2 * w, 4 * w))
        self.dfl = Distribution(bins)

    @staticmethod
    def _branch(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(ConvUnit(inputs, 16, 3), ConvUnit(16, 16, 3), nn.Conv2d(16, outputs, 1))

    def forward(self, x: Tensor) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        one = self.stem(x)
        two = self.deep(one)
        levels = [self.merge(torch.cat([F.interpolate(two, scale_factor=2.0), one], 1)), two]
        for i, (box, label) in enumerate(zip(self.box, self.label, strict=True)):
            levels[i] = torch.cat((box(levels[i]), label(levels[i])), 1)
        if self.training:
            return levels
        flat = torch.cat([level.view(level.shape[0], self.no, -1) for level in levels], 2)
        box, label = flat.split((self.bins * 4, self.nc), 1)
        centres = torch.cat([grid_of(*y.shape[-2:], like=y).view(-1, 2) + 0.5 for y in levels]).T
        before, behind = self.dfl(box).chunk(2, 1)
        boxes = torch.cat((centres - before, centres + behind), 1)
        return torch.cat((boxes, label.sigmoid()), 1), levels


def yolos() -> list[Architecture]:
    """List the YOLO family."""
    return [Architecture("yolov5", YOLOv5), Architecture("yolov7", YOLOv7), Architecture("yolov8", YOLOv8)]
