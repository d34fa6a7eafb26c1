"""Small networks that are no plain classifiers: recurrent, spectral, in three dimensions, adversarial.

Shapes: B examples, T steps, C channels, D, H and W pixels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from support.networks import Architecture


def conv_norm_relu(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class CRNN(nn.Module):
    """Convolutions down to a line, then two LSTMs in both directions (Shi et al., arXiv 1507.05717)."""

    def __init__(self, width: int = 8, classes: int = 11) -> None:
        super().__init__()
        w = width
        self.cnn = nn.Sequential(
            *(conv_norm_relu(1, w), nn.MaxPool2d(2, 2)),
            *(conv_norm_relu(w, 2 * w), nn.MaxPool2d(2, 2)),
            *(conv_norm_relu(2 * w, 4 * w), nn.MaxPool2d((2, 2), (2, 1), (0, 1))),
            *(nn.Conv2d(4 * w, 4 * w, 2), nn.BatchNorm2d(4 * w), nn.ReLU(True)),
        )
        self.rnn = nn.LSTM(4 * w, 16, num_layers=2, bidirectional=True)
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cnn(x).squeeze(2).permute(2, 0, 1)  # (T, B, C)
        x, _ = self.rnn(x)
        t, b, c = x.size()
        return F.log_softmax(self.head(x.reshape(t * b, c)).view(t, b, -1), dim=2)


class ConvLSTM(nn.Module):
    """Gates by convolution, from a state of zeros (Shi et al. 2015, arXiv 1506.04214)."""

    def __init__(self, hidden: int = 12) -> None:
        super().__init__()
        self.hidden_dim = hidden
        self.embed = nn.Conv2d(2, 10, 3, padding=1)
        self.gates = nn.Conv2d(10 + hidden, 4 * hidden, 3, padding=1)
        self.head = nn.Sequential(nn.Conv2d(hidden, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, steps, _, height, width = x.shape
        h = torch.zeros(b, self.hidden_dim, height, width, device=x.device, dtype=x.dtype)
        c = torch.zeros_like(h)
        for t in range(steps):
            gates = self.gates(torch.cat([F.relu(self.embed(x[:, t])), h], dim=1))
            i, f, o, g = torch.split(gates, self.hidden_dim, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.head(h)


class SpectralConv(nn.Module):
    """A linear map of each of the low frequencies (Li et al. 2021, arXiv 2010.08895)."""

    def __init__(self, inputs: int, outputs: int, modes: int) -> None:
        super().__init__()
        self.outputs, self.modes = outputs, modes
        self.weights1 = nn.Parameter(torch.rand(inputs, outputs, modes, modes, 2) / inputs)
        self.weights2 = nn.Parameter(torch.rand(inputs, outputs, modes, modes, 2) / inputs)

    def forward(self, x: Tensor) -> Tensor:
        m, spectrum = self.modes, torch.fft.rfft2(x)
        out = torch.zeros(
            (x.shape[0], self.outputs, *spectrum.shape[-2:]), dtype=spectrum.dtype, device=x.device
        )
        one, two = torch.view_as_complex(self.weights1), torch.view_as_complex(self.weights2)
        out[:, :, :m, :m] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, :m, :m], one)
        out[:, :, -m:, :m] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, -m:, :m], two)
        return torch.fft.irfft2(out, s=x.shape[-2:])


class FNO(nn.Module):
    """A Fourier neural operator: spectral beside pointwise convolutions."""

    def __init__(self, width: int = 12, modes: int = 4) -> None:
        super().__init__()
        self.lift = nn.Conv2d(3, width, 1)
        self.spectral = nn.ModuleList(SpectralConv(width, width, modes) for _ in range(2))
        self.point = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(2))
        self.project = nn.Sequential(nn.Conv2d(width, 24, 1), nn.GELU(), nn.Conv2d(24, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        places = torch.linspace(0, 1, x.shape[-1], device=x.device, dtype=x.dtype)
        grid = places.expand(x.shape[0], 1, *x.shape[-2:])
        x = self.lift(torch.cat((x, grid, grid.transpose(2, 3)), dim=1))
        for spectral, point in zip(self.spectral, self.point, strict=True):
            x = F.gelu(spectral(x) + point(x))
        return self.project(x)


class UNet3d(nn.Module):
    """In three dimensions, with deep supervision in training alone."""

    def __init__(self, width: int = 6, classes: int = 2) -> None:
        super().__init__()
        w = width
        self.enc = nn.ModuleList(self._block(i, o) for i, o in ((1, w), (w, 2 * w), (2 * w, 4 * w)))
        self.pool = nn.MaxPool3d(2)
        self.up = nn.ModuleList(nn.ConvTranspose3d(i, i // 2, 2, 2) for i in (4 * w, 2 * w))
        self.dec = nn.ModuleList(self._block(i, i // 2) for i in (4 * w, 2 * w))
        self.heads = nn.ModuleList(nn.Conv3d(c, classes, 1) for c in (2 * w, w))

    @staticmethod
    def _block(inputs: int, outputs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers += [nn.Conv3d(channels, outputs, 3, padding=1, bias=False)]
            layers += [nn.InstanceNorm3d(outputs, affine=True), nn.LeakyReLU(0.01, inplace=True)]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        skips, found = [], []
        for i, enc in enumerate(self.enc):
            x = enc(self.pool(x) if i else x)
            skips.append(x)
        skips.pop()
        for up, dec, head in zip(self.up, self.dec, self.heads, strict=True):
            x = dec(torch.cat((up(x), skips.pop()), dim=1))
            found.append(head(x))
        return found[::-1] if self.training else found[-1]


class HRNet(nn.Module):
    """Resolutions side by side that exchange sums (Wang et al. 2020, arXiv 1908.07919)."""

    def __init__(self, width: int = 8, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_norm_relu(3, width, 2), conv_norm_relu(width, width))
        self.transition = conv_norm_relu(width, 2 * width, 2)
        self.branches = nn.ModuleList(
            nn.ModuleList(conv_norm_relu(c, c) for c in (width, 2 * width)) for _ in range(2)
        )
        self.up = nn.ModuleList(self._fuse(2 * width, width) for _ in range(2))
        self.down = nn.ModuleList(self._fuse(width, 2 * width, 2) for _ in range(2))
        self.head = nn.Sequential(conv_norm_relu(3 * width, 3 * width), nn.Conv2d(3 * width, classes, 1))

    @staticmethod
    def _fuse(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
        kernel = 3 if stride > 1 else 1
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        high = self.stem(x)
        low = self.transition(high)
        for (one, two), up, down in zip(self.branches, self.up, self.down, strict=True):
            high, low = one(high), two(low)
            size = high.shape[-2:]
            lifted = F.interpolate(up(low), size=size, mode="bilinear", align_corners=False)
            high, low = F.relu(high + lifted), F.relu(low + down(high))
        low = F.interpolate(low, size=high.shape[-2:], mode="bilinear", align_corners=True)
        return self.head(torch.cat([high, low], 1))


class EDSR(nn.Module):
    """Scaled residuals, a long skip, sub-pixel upsampling (Lim et al. 2017, arXiv 1707.02921)."""

    def __init__(self, width: int = 12, scale: int = 2) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.ModuleList(self._block(width) for _ in range(3))
        self.last = nn.Conv2d(width, width, 3, padding=1)
        up = nn.Conv2d(width, width * scale**2, 3, padding=1)
        self.tail = nn.Sequential(up, nn.PixelShuffle(scale), nn.Conv2d(width, 3, 3, padding=1))
        self.register_buffer("mean", torch.tensor([0.45, 0.44, 0.40]).view(1, 3, 1, 1))

    def _block(self, width: int) -> nn.Sequential:
        one, two = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        return nn.Sequential(one, nn.ReLU(True), two)

    def forward(self, x: Tensor) -> Tensor:
        x = y = self.head(x - self.mean)
        for block in self.body:
            y = y + block(y).mul(0.1)
        return self.tail(self.last(y) + x) + self.mean


class ChannelAttentionBlock(nn.Module):
    """Channels weighed by their own means (Zhang et al. 2018, arXiv 1807.02758)."""

    def __init__(self, width: int, reduction: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.PReLU(), nn.Conv2d(width, width, 3, padding=1)
        )
        self.attention = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width // reduction, 1), nn.ReLU(True)),
            *(nn.Conv2d(width // reduction, width, 1), nn.Sigmoid()),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y = y * self.attention(y)
        y += x
        return y


class RCAN(nn.Module):
    """Residual groups of channel attention."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.groups = nn.ModuleList(
            nn.Sequential(*(ChannelAttentionBlock(width) for _ in range(2)), nn.Conv2d(width, width, 3, 1, 1))
            for _ in range(2)
        )
        self.up = nn.Sequential(nn.Conv2d(width, 4 * 8, 3, padding=1), nn.PixelShuffle(2))
        self.tail = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = skip = self.head(x)
        for group in self.groups:
            x = group(x) + x
        return self.tail(self.up(x + skip))


class Siamese(nn.Module):
    """Two images through one network to unit vectors, and their likeness."""

    def __init__(self, width: int = 8, embedding: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_norm_relu(3, width, 2), conv_norm_relu(width, 2 * width, 2), conv_norm_relu(2 * width, 24)
        )
        self.embed = nn.Linear(24, embedding)
        self.bottleneck = nn.BatchNorm1d(embedding)

    def embedded(self, x: Tensor) -> Tensor:
        x = torch.flatten(F.adaptive_avg_pool2d(self.body(x), 1), 1)
        return F.normalize(self.bottleneck(self.embed(x)), p=2, dim=1)

    def forward(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first, second = self.embedded(one), self.embedded(other)
        return F.cosine_similarity(first, second), first, second


class Critic(nn.Module):
    """A critic under spectral normalisation (Miyato et al. 2018, arXiv 1802.05957)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        norm, w = parametrizations.spectral_norm, width
        self.first = nn.Conv2d(3, w, 4, 2, 1)
        self.body = nn.Sequential(
            *(nn.LeakyReLU(0.2), norm(nn.Conv2d(w, 2 * w, 4, 2, 1)), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(2 * w, 4 * w, 4, 2, 1), nn.InstanceNorm2d(4 * w, affine=True), nn.LeakyReLU(0.2)),
        )
        self.head = nn.Linear(4 * w, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.first(x)).sum((2, 3))).view(-1)


class HookedUNet(nn.Module):
    """Skips are taken from the encoder by forward hooks, as fastai's DynamicUnet does."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        w, self.taken = width, dict[str, Tensor]()
        self.encoder = nn.Sequential(
            conv_norm_relu(3, w), conv_norm_relu(w, 2 * w, 2), conv_norm_relu(2 * w, 4 * w, 2)
        )
        for name in ("0", "1"):
            self.encoder.get_submodule(name).register_forward_hook(self._take)
        self.up1, self.up2 = nn.ConvTranspose2d(4 * w, 2 * w, 2, 2), nn.ConvTranspose2d(2 * w, w, 2, 2)
        self.merge1, self.merge2 = conv_norm_relu(4 * w, 2 * w), conv_norm_relu(2 * w, w)
        self.head = nn.Conv2d(w, 3, 1)

    def _take(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.taken["wide" if module is self.encoder[0] else "deep"] = output

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x)
        x = self.merge1(torch.cat([self.up1(x), self.taken["deep"]], 1))
        return self.head(self.merge2(torch.cat([self.up2(x), self.taken["wide"]], 1)))


def varieties() -> list[Architecture]:
    """List these networks."""
    return [
        Architecture("crnn", CRNN, (1, 16, 48)),
        Architecture("convlstm", ConvLSTM, (3, 2, 12, 12)),
        Architecture("fno", FNO, (1, 16, 16)),
        Architecture("unet 3d deep supervision", UNet3d, (1, 8, 16, 16)),
        Architecture("hrnet", HRNet, (3, 32, 32)),
        Architecture("edsr", EDSR, (3, 16, 16)),
        Architecture("rcan", RCAN, (3, 16, 16)),
        Architecture("siamese", Siamese, (3, 32, 32), ((3, 32, 32),)),
        Architecture("critic", Critic, (3, 32, 32)),
        Architecture("hooked unet", HookedUNet, (3, 32, 32)),
    ]
