"""A recorded program computes on any cut what the network does, or there is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.envs.evaluation import candidate_program
from secateur.envs.evaluation.candidate_program import CandidateProgram, compile_program
from secateur.envs.evaluation.operation_graph import named_tensors
from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import trace_exactly


class Plain(nn.Module):
    """Two convolutions with batch-norm, and a linear layer on the flattened maps."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.norm2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.classifier = nn.Linear(8 * 4 * 4, 3)

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.norm2(self.second(F.relu(self.norm(self.first(x))))))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.classifier(x.flatten(1))


class ViewOfKnownSizes(Plain):
    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.classifier(x.view(x.shape[0], x.shape[1] * 16))


class InPlace(Plain):
    def features(self, x: Tensor) -> Tensor:
        x = F.relu_(self.norm(self.first(x)))
        return F.relu_(self.norm2(self.second(x)))


class Residual(Plain):
    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        return F.relu(x + self.norm2(self.second(x)))


class AddedInPlace(Plain):
    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        out = self.norm2(self.second(x))
        out += x
        return F.relu(out)


class ReadTwice(Plain):
    """Others read the first convolution and the last batch-norm, too."""

    def features(self, x: Tensor) -> Tensor:
        raw = self.first(x)
        normed = self.norm(raw)
        y = self.norm2(self.second(F.relu(normed)))
        return F.relu(y) + torch.sigmoid(y) + raw.abs().mean(1, keepdim=True)


class Depthwise(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        return F.relu(x + self.norm2(self.second(x)))


class Shared(Plain):
    """The second convolution and its batch-norm run twice."""

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        for _ in range(2):
            x = F.relu(self.norm2(self.second(x)))
        return x


class WithoutNorm(Plain):
    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))))


class DecidesOnNumbers(Plain):
    def features(self, x: Tensor) -> Tensor:
        x = super().features(x)
        return x if x.mean() > 0 else -x


class DependsOnChance(Plain):
    def features(self, x: Tensor) -> Tensor:
        return F.dropout(super().features(x), 0.5, training=True)


class WritesIntoAView(Plain):
    def features(self, x: Tensor) -> Tensor:
        x = super().features(x)
        x[:, :, 0].mul_(2)
        return x


class MakesATensor(Plain):
    def features(self, x: Tensor) -> Tensor:
        return super().features(x) * torch.from_numpy(np.float32([2.0]))


class OddNorm(nn.BatchNorm2d):
    """It normalises otherwise while it takes statistics."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(2 * x if self.training else x)


class WithOddNorm(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.norm = OddNorm(8)


def forward(model: nn.Module, piece: Tensor) -> Tensor:
    return model(piece)


def take_statistics(model: nn.Module, piece: Tensor) -> None:
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = 1.0
        norm.train()
    model(piece)
    model.eval()


def compiled(
    build: Callable[[], Plain],
) -> tuple[CandidateProgram | None, nn.Module, Callable[[int], nn.Module]]:
    """Compile a network with random statistics; also return it and what cuts it by a seed."""
    torch.manual_seed(0)
    model = build().eval()
    for norm in (model.norm, model.norm2):
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.data.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    network = trace_exactly(model, torch.zeros(2, 2, 4, 4))

    def smaller(seed: int) -> nn.Module:
        drawn = np.random.default_rng(seed)
        masks = [drawn.permutation(layer.filters) < 3 + seed for layer in network.layers]
        return cut(model, network, PruningPlan.from_masks(network, masks))

    def measured(other: nn.Module) -> Tensor:
        take_statistics(other, piece)
        return other(piece)

    piece = torch.randn(2, 2, 4, 4)
    norms = [(f"{name}.running_mean", f"{name}.running_var") for name in ("norm", "norm2")]
    with torch.inference_mode():
        networks = [model, *(smaller(seed) for seed in (0, 1, 2))]
        return compile_program(forward, measured, networks, piece, norms), smaller


RECORDED = [
    Plain, ViewOfKnownSizes, InPlace, Residual, AddedInPlace, ReadTwice, Depthwise, Shared, WithoutNorm
]  # fmt: skip
REFUSED = [DecidesOnNumbers, DependsOnChance, WritesIntoAView, MakesATensor, WithOddNorm]


@pytest.mark.parametrize("build", RECORDED)
@torch.inference_mode()
def test_a_program_computes_what_a_cut_does_on_any_number_of_images(build: Callable[[], Plain]) -> None:
    program, smaller = compiled(build)
    assert program is not None
    images, others = torch.randn(6, 2, 4, 4), torch.randn(5, 2, 4, 4)
    for seed in (3, 4):
        network = smaller(seed)
        tensors = named_tensors(network)
        output = program.prepared(tensors, [])(others)
        torch.testing.assert_close(output, network(others), rtol=1e-4, atol=1e-4)
        found = [*map(program.prepared(tensors, [images]), [others, images])]
        take_statistics(network, images)
        for output, piece in zip(found, (others, images), strict=True):
            torch.testing.assert_close(output, network(piece), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("build", REFUSED)
def test_what_a_graph_cannot_hold_has_no_program(build: Callable[[], Plain]) -> None:
    assert compiled(build)[0] is None


@pytest.mark.parametrize(("build", "passes"), [(Plain, 0), (Residual, 0), (AddedInPlace, 0), (ReadTwice, 9)])
def test_convolutions_compute_what_follows_them(build: Callable[[], Plain], passes: int) -> None:
    program, _ = compiled(build)
    assert program is not None
    operations = [str(node.target) for node in program.outputs.graph.nodes if node.op == "call_function"]
    others = [
        name for name in operations if not any(part in name for part in ("mkldnn", "linear", "flatten"))
    ]
    assert len(others) == passes


def test_a_fold_that_errs_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate_program.Folding, "compute", lambda *_: None)
    program, smaller = compiled(Plain)
    assert program is not None
    network, images = smaller(3), torch.randn(5, 2, 4, 4)
    with torch.inference_mode():
        output = program.prepared(named_tensors(network), [])(images)
        assert torch.equal(output, network(images))
