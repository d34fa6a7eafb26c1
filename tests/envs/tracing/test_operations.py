"""Operations that only pass channels on keep them apart; those that mix them say so."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import ops

from secateur.envs.surgery.cutting import cut, mask_
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tracing import trace
from support.exactness import IMAGES, Around, reasons, traced_and_cut
from support.promises import difference, outputs, random_plan

Between = Callable[[Tensor], Tensor]
BOXES = torch.tensor([[0.0, 0.0, 0.0, 5.0, 5.0], [2.0, 1.0, 1.0, 6.0, 7.0]], dtype=torch.float64)


def spectrum(x: Tensor) -> Tensor:
    return torch.fft.fftshift(torch.fft.fft2(x), dim=(2, 3))


def scattered(x: Tensor) -> Tensor:
    """Add up pixels in three places."""
    places = (torch.arange(64) % 3).expand(len(x), x.shape[1], -1)
    return torch.zeros_like(x).flatten(2).scatter_add(2, places, x.flatten(2)).view(x.shape)


def put(x: Tensor) -> Tensor:
    room = torch.zeros_like(x)
    room[:, :, torch.arange(4), torch.arange(4)] = x[:, :, 0, :4]
    return room


PASSING: dict[str, Between] = {
    "fold": lambda x: F.fold(F.unfold(x, 3, padding=1), (8, 8), 3, padding=1),
    "pixels of channels and back": lambda x: F.pixel_shuffle(F.pixel_unshuffle(x, 2), 2),
    "real spectrum": lambda x: torch.fft.rfft2(x).abs(),
    "spectrum": lambda x: spectrum(x).real + spectrum(x).imag,
    "complex pairs": lambda x: torch.view_as_complex(torch.view_as_real(spectrum(x)) * 0.5).real,
    "region align": lambda x: ops.roi_align(x, BOXES.to(x), 3),
    "region pooling": lambda x: ops.roi_pool(x, BOXES.to(x), 3),
    "shuffled batch": lambda x: x[torch.randperm(len(x))],
    "pixels by number": lambda x: x[:, :, [0, 1, 5]][..., [2]],
    "points": lambda x: x[:, :, [0, 1], [2, 3]][..., None],
    "points of each example": lambda x: x[torch.arange(3), :, torch.arange(3)][..., None],
    "pixels by mask": lambda x: x[:, :, torch.eye(8, dtype=torch.bool)][..., None],
    "selected rows": lambda x: x.index_select(2, torch.tensor([3, 1])),
    "largest pixels": lambda x: x.flatten(2).gather(2, x.flatten(2).topk(5, 2)[1])[..., None],
    "pixels of one map": lambda x: torch.take_along_dim(x, torch.zeros(1, 1, 1, 8, dtype=torch.long), 2),
    "scatter": scattered,
    "put": put,
    "added rows": lambda x: torch.zeros_like(x).index_add(2, torch.tensor([0, 0, 1]), x[:, :, :3]),
    "windows": lambda x: x.unfold(2, 2, 2).flatten(3),
    "doubled": lambda x: x.repeat_interleave(2, 2),
    "one row repeated": lambda x: x[:, :, :1].repeat(1, 1, 4, 1),
}


@pytest.mark.parametrize("operation", PASSING)
def test_what_passes_channels_on_pins_nothing(operation: str) -> None:
    assert traced_and_cut(Around(PASSING[operation])).prunable_share == 1.0


def test_gated_linear_units_couple_value_and_gate() -> None:
    network = traced_and_cut(Around(lambda x: F.glu(x, 1), first=16))
    assert network.prunable_share == 1.0
    assert network.layers[0].slices[0].index.tolist() == [[i, i + 8] for i in range(8)]


MIXING: dict[str, tuple[Between, str]] = {
    "spectrum of channels": (lambda x: torch.fft.fft(x, dim=1).real, "a Fourier transform over channels"),
    "channels by number": (lambda x: x[:, torch.arange(8)], "channels are selected by position"),
    "channels by mask": (lambda x: x[:, torch.ones(8) > 0], "channels are selected by position"),
    "windows": (lambda x: x.unfold(1, 8, 8)[:, 0].movedim(-1, 1), "channels are cut into windows"),
    "distance": (
        lambda x: torch.cdist(x.flatten(2).mT, torch.ones(5, 8).to(x)).mT.unflatten(2, (8, 8)),
        "a distance is measured over these channels",
    ),
    "position-sensitive regions": (
        lambda x: ops.ps_roi_pool(x, BOXES.to(x), 2),
        "each channel belongs to a place in the region",
    ),
    "attention": (
        lambda x: F.scaled_dot_product_attention(*[x.flatten(2).mT] * 3).mT.unflatten(2, (8, 8)),
        "a product of two activations sums over channels",
    ),
}


@pytest.mark.parametrize("operation", MIXING)
def test_what_mixes_channels_pins_them_and_says_why(operation: str) -> None:
    between, reason = MIXING[operation]
    second = {"distance": 5, "position-sensitive regions": 2}.get(operation, 8)
    assert reasons(traced_and_cut(Around(between, second=second))) == {"first": reason}


@pytest.mark.parametrize("modulated", [False, True])
def test_a_deformable_convolution_is_cut_like_any_other(modulated: bool) -> None:
    class Deformed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.offsets = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 18, 3, padding=1)
            self.weights = nn.Conv2d(8, 9, 3, padding=1) if modulated else None
            self.deformed, self.head = ops.DeformConv2d(8, 6, 3, padding=1), nn.Conv2d(6, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.stem(x))
            weights = None if self.weights is None else torch.sigmoid(self.weights(x))
            return self.head(self.deformed(x, self.offsets(x), weights))

    network = traced_and_cut(Deformed())
    assert {layer.name: layer.filters for layer in network.layers} == {"stem": 8, "deformed": 6}
    assert set(reasons(network).values()) == {"offsets of a deformable convolution"}


class Spectral(nn.Module):
    """Multiply low frequencies by complex weights (Li et al. 2020, arXiv 2010.08895)."""

    def __init__(self, width: int = 6, modes: int = 3) -> None:
        super().__init__()
        self.lift, self.head = nn.Conv2d(3, width, 1), nn.Conv2d(width, 2, 1)
        self.width, self.modes = width, modes
        self.weight = nn.Parameter(torch.randn(width, width, modes, modes, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> Tensor:
        x, m = self.lift(x), self.modes
        frequencies = torch.fft.rfft2(x)
        out = torch.zeros(len(x), self.width, *frequencies.shape[2:], dtype=frequencies.dtype)
        out[:, :, :m, :m] = torch.einsum("bixy,ioxy->boxy", frequencies[:, :, :m, :m], self.weight)
        return self.head(F.gelu(torch.fft.irfft2(out, s=x.shape[2:])))


def test_complex_weights_of_frequencies_are_cut() -> None:
    model, images = Spectral(), IMAGES.float()
    network = trace(model, images)
    assert network.prunable_share == 1.0
    assert {s.parameter for layer in network.layers for s in layer.slices} >= {"weight", "lift.weight"}
    plan = random_plan(network, 0.5)
    smaller = cut(model, network, plan)
    mask_(model, network, plan)
    assert difference(outputs(model, (images,)), outputs(smaller, (images,))) < 1e-6
    assert smaller.width == len(smaller.weight[0])


@pytest.mark.parametrize(
    "norm",
    [
        lambda: nn.GroupNorm(1, 8),
        lambda: nn.LayerNorm([8, 8, 8]),
        lambda: _ChannelsLast(),
    ],
    ids=["one group", "all axes", "channels last"],
)
def test_layer_norm_is_pinned_with_its_remedy_and_tied_if_that_is_allowed(
    norm: Callable[[], nn.Module],
) -> None:
    model = Around(norm()).double()
    assert "--allow-inexact layernorm" in reasons(trace(model, IMAGES))["first"]
    network = trace(model, IMAGES, allow_inexact=["layernorm"])
    assert network.prunable_share == 1.0
    parameters = [s.parameter for s in network.layers[0].slices]
    assert sum(name.startswith("between") for name in parameters) == 2  # weight and bias
    smaller = cut(model, network, random_plan(network, 0.5))
    assert outputs(smaller, (IMAGES,))[0].shape == outputs(model, (IMAGES,))[0].shape


class _SizeOfItsOwn(nn.Module):
    """A layer norm that reads its size from an attribute that no cut rewrites."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))
        self.register_buffer("size", torch.tensor(8))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.permute(0, 2, 3, 1), (int(self.size),), self.weight).permute(0, 3, 1, 2)


def test_a_layer_norm_that_does_not_run_after_a_cut_is_pinned() -> None:
    model = Around(_SizeOfItsOwn()).double()
    network = trace_exactly(model, IMAGES, allow_inexact=["layernorm"])
    assert "the cut network does not run" in reasons(network)["first"]


class _ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (8, 8))
