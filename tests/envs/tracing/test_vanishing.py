"""Sums over channels are exact, and pin nothing, where a masked channel is exactly zero, and only there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm

from secateur.envs.modules.calls import as_calls
from secateur.envs.surgery.cutting import mask_
from secateur.envs.tracing.labels import LabelVector
from secateur.envs.tracing.propagation import Propagation
from secateur.envs.tracing.trace import record
from support.exactness import IMAGES, Around, reasons, traced_and_cut
from support.networks import OWN
from support.promises import random_plan

Between = Callable[[Tensor], Tensor]


class Normalised(nn.Module):
    """Divide by the length over all channels."""

    def __init__(self, activation: Between) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.activation(x), dim=1)


def halves(x: Tensor) -> Tensor:
    """Put both halves of the channels where the other was."""
    one, other = x.chunk(2, 1)
    return torch.cat([other, one], 1)


def written(value: Between) -> Between:
    """Write something of the channels into zeros."""

    def write(x: Tensor) -> Tensor:
        room = torch.zeros(x.shape, dtype=x.dtype)
        room[:, :, 1:] = value(x)[:, :, 1:]
        return room

    return write


def one_row_of_ones(x: Tensor) -> Tensor:
    x[:, :, 0] = 1.0
    return x


def other_half_written(x: Tensor) -> Tensor:
    """Write into memory that the result has no part in."""
    one, other = torch.cat([x, x], 2).chunk(2, 2)
    other.cos_()
    return one


ZERO_AT_ZERO: dict[str, Between] = {
    "nothing": lambda x: x,
    "relu": F.relu,
    "leaky relu": F.leaky_relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "elu": F.elu,
    "hardswish": F.hardswish,
    "relu6": F.relu6,
    "tanh": torch.tanh,
    "softshrink": F.softshrink,
    "threshold that gives zero": lambda x: F.threshold(x, 0.1, 0.0),
    "square": torch.square,
    "root": lambda x: x.abs().sqrt(),
    "clamp around zero": lambda x: x.clamp(-0.5, 0.7),
    "negative": torch.neg,
    "prelu": nn.PReLU(8),
    "batch-norm": nn.BatchNorm2d(8),
    "instance-norm": nn.InstanceNorm2d(8),
    "group-norm": nn.GroupNorm(4, 8),
    "gate": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "gate of pixels": lambda x: x * torch.sigmoid(x.sum(1, keepdim=True)),
    "sum of two": lambda x: x + F.relu(x),
    "pooling": lambda x: F.max_pool2d(x, 2),
    "mean pooling": lambda x: F.adaptive_avg_pool2d(x, 3),
    "resizing": lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"),
    "reshape": lambda x: x.flatten(2).transpose(1, 2).transpose(1, 2).unflatten(2, (8, 8)),
    "halves": halves,
    "padding": lambda x: F.pad(x, (1, 1, 1, 1)),
    "masked by zero": lambda x: x.masked_fill(torch.eye(8, dtype=torch.bool), 0.0),
    "where": lambda x: torch.where(x > 0.1, x, 0.3 * x),
    "written into zeros": written(F.relu),
    "written beside": other_half_written,
    "expanded": lambda x: x[:, :, :1, :1].expand(-1, -1, 4, 4),
    "fourier": lambda x: torch.fft.irfft2(torch.fft.rfft2(x), s=(8, 8)),
}

NOT_ZERO_AT_ZERO: dict[str, Between] = {
    "sigmoid": torch.sigmoid,
    "exponential": torch.exp,
    "cosine": torch.cos,
    "softplus": F.softplus,
    "log-sigmoid": F.logsigmoid,
    "hard sigmoid": F.hardsigmoid,
    "threshold that gives two": lambda x: F.threshold(x, 0.1, 2.0),
    "clamp above zero": lambda x: x.clamp(0.1, 0.7),
    "one more": lambda x: x + 1.0,
    "a map more": lambda x: x + torch.linspace(0.0, 1.0, 8, dtype=x.dtype),
    "softmax over pixels": lambda x: x.flatten(2).softmax(2).unflatten(2, (8, 8)),
    "batch-norm without parameters": nn.BatchNorm2d(8, affine=False),
    "masked by one": lambda x: x.masked_fill(torch.eye(8, dtype=torch.bool), 1.0),
    "padding by one": lambda x: F.pad(x, (1, 1, 1, 1), value=1.0),
    "one row of ones": one_row_of_ones,
    "sigmoid written into zeros": written(torch.sigmoid),
    "a view changed in place": lambda x: (x.view(len(x), -1).add_(0.5), x)[1],
    "with a sigmoid beside it": lambda x: x + torch.sigmoid(x),
    "whether it is zero": lambda x: (x == 0.0).to(x.dtype) + x,
}


@pytest.mark.parametrize("activation", ZERO_AT_ZERO)
def test_a_norm_over_channels_that_vanish_pins_nothing(activation: str) -> None:
    network = traced_and_cut(Around(Normalised(ZERO_AT_ZERO[activation])))
    assert network.prunable_share == 1.0


@pytest.mark.parametrize("activation", NOT_ZERO_AT_ZERO)
def test_a_norm_over_channels_that_do_not_vanish_pins_them(activation: str) -> None:
    network = traced_and_cut(Around(Normalised(NOT_ZERO_AT_ZERO[activation])))
    assert reasons(network) == {"first": "linalg_vector_norm reduces over channels"}


@pytest.mark.parametrize(
    ("reduce", "exact"),
    [
        (lambda x: x.sum(1, keepdim=True), True),
        (lambda x: x.norm(p=1, dim=1, keepdim=True), True),
        (lambda x: torch.linalg.vector_norm(x, float("inf"), 1, keepdim=True), True),
        (lambda x: torch.linalg.vector_norm(x, -1.0, 1, keepdim=True), False),
        (lambda x: x.mean(1, keepdim=True), False),
        (lambda x: x.amax(1, keepdim=True), False),
        (lambda x: x.var(1, keepdim=True), False),
        (lambda x: x.softmax(1), False),
        (lambda x: x.prod(1, keepdim=True), False),
        (lambda x: x.logsumexp(1, keepdim=True), False),
    ],
    ids=["sum", "1-norm", "largest", "negative norm", "mean", "max", "variance", "softmax", "product", "lse"],
)
def test_of_all_reductions_over_channels_sums_alone_are_exact(reduce: Between, exact: bool) -> None:
    network = traced_and_cut(Around(lambda x: x * torch.sigmoid(reduce(x))))
    assert ("first" in reasons(network)) != exact


class Cosine(nn.Module):
    """An embedding and classes, both of length one."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.embed = nn.Conv2d(3, 8, 3), nn.Linear(8, 6)
        self.classes = nn.Parameter(torch.randn(5, 6))
        self.register_buffer("queue", torch.randn(6, 7))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.normalize(self.embed(F.relu(self.body(x)).mean((2, 3))), dim=1)
        return F.linear(x, F.normalize(self.classes, dim=1)), x @ self.queue


def test_a_cosine_head_and_a_queue_of_embeddings_are_cut_along() -> None:
    network = traced_and_cut(Cosine())
    assert network.prunable_share == 1.0
    embedding = next(layer for layer in network.layers if layer.name == "embed")
    assert {(s.parameter, s.axis) for s in embedding.slices} >= {("classes", 1), ("queue", 0)}


def test_scores_of_two_activations_stay_pinned() -> None:
    def scores(x: Tensor) -> Tensor:
        x = x.flatten(2)
        return x @ (x.transpose(1, 2) @ x).softmax(-1)

    network = traced_and_cut(Around(lambda x: scores(x).unflatten(2, (8, 8))))
    assert reasons(network)["first"] == "a product of two activations sums over channels"


def test_what_is_divided_by_a_channel_that_vanishes_pins_it() -> None:
    network = traced_and_cut(Around(lambda x: x / x.flatten(2).norm(dim=2)[..., None, None]))
    assert "divided" in reasons(network)["first"]


@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, spectral_norm], ids=["new", "old"])
@pytest.mark.parametrize("training", [True, False])
def test_spectral_norm_is_cut_exactly_with_its_vectors(
    norm: Callable[[nn.Module], nn.Module], training: bool
) -> None:
    model = Around(F.relu).train(training)
    for name in ("first", "second", "head"):
        setattr(model, name, norm(getattr(model, name)))
    network = traced_and_cut(model)
    assert network.prunable_share == 1.0
    assert any(s.parameter.endswith(("_u", "_v")) for layer in network.layers for s in layer.slices)


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    **{a.name: lambda a=a: (a.model(), a.example()) for a in OWN},
    **{name: lambda f=f: (Around(Normalised(f)), IMAGES) for name, f in ZERO_AT_ZERO.items()},
    **{name: lambda f=f: (Around(Normalised(f)), IMAGES) for name, f in NOT_ZERO_AT_ZERO.items()},
    "cosine head": lambda: (Cosine(), IMAGES),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_said_to_vanish_is_zero_in_the_masked_network(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, example = NETWORKS[name]()
    recording = record(model, as_calls(example))
    network = recording.solve()
    plan = random_plan(network, 0.5)
    mask_(model, network, plan)
    classes, _ = recording.propagation.labels.solve()
    first = {(axis.name, axis.axis): axis.first for axis in recording.propagation.records.axes}
    gone = [
        classes[first[s.parameter, s.axis] + s.index[~mask].ravel()]
        for layer, mask in zip(network.layers, plan.masks(network), strict=True)
        for s in layer.slices
    ]
    masked = np.isin(classes, np.concatenate([np.empty(0, np.int64), *gone]))
    seen = []
    plain_set = Propagation.set

    def checked_set(
        self: Propagation, tensor: Tensor, axes: Sequence[LabelVector | None], **how: Any
    ) -> None:
        """Both traces give the same labels in the same order."""
        plain_set(self, tensor, axes, **how)
        if self.value(tensor).vanishes:
            for dim, labels in enumerate(axes):
                if labels is not None:
                    where = torch.from_numpy(np.flatnonzero(masked[labels]))
                    seen.append(len(where))
                    assert not tensor.index_select(dim, where).any(), self.operation

    monkeypatch.setattr(Propagation, "set", checked_set)
    record(model, as_calls(example))
    assert sum(seen) or not network.layers
