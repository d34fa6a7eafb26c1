"""Fused, a network computes what it computed before."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import plain_network
from torch import Tensor, nn

from secateur.envs.fusion import Fused, Fusion, find_fusions
from secateur.envs.models import get_model


def settled(model: nn.Module, images: Tensor) -> nn.Module:
    """Give batch-norm statistics, weights and biases of its own."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.uniform_(module.bias, -1, 1)
            module.train()
    with torch.no_grad():
        model(images)
    return model.eval()


@torch.inference_mode()
def check(model: nn.Module, images: Tensor) -> list[Fusion]:
    settled(model, images)
    fusions = find_fusions(model, images[:2])
    plain = model(images)
    with Fused(model, fusions):
        fused = model(images)
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4)
    assert not fusions or not torch.equal(fused, plain)
    return fusions


def test_convolution_batch_norm_and_relu_become_one_operation() -> None:
    fusions = check(plain_network(), torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert fusions == [Fusion("0", "1", True), Fusion("3", "4", True)]


@pytest.mark.parametrize(("name", "fused", "relus"), [("resnet20", 19, 10), ("vgg16", 13, 13)])
def test_every_convolution_of_a_cifar_network_is_fused(name: str, fused: int, relus: int) -> None:
    torch.manual_seed(0)
    fusions = check(get_model(name, num_classes=10, in_channels=3), torch.randn(4, 3, 32, 32))
    assert (len(fusions), sum(fusion.relu for fusion in fusions)) == (fused, relus)


class Branching(nn.Module):
    """Read a convolution twice, use one twice, normalise with a batch's own statistics, and return a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.read_twice, self.used_twice, self.unsettled, self.last = (
            nn.Conv2d(1, 1, 3, padding=1) for _ in range(4)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(1, affine=k % 2 == 0) for k in range(4))
        self.batch_norm = nn.BatchNorm2d(1, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.read_twice(x)
        y = F.relu(self.norms[0](y)) + y
        y = F.relu(self.norms[1](self.used_twice(y)))
        y = F.relu(self.norms[2](self.used_twice(y)))
        y = F.relu(self.batch_norm(self.unsettled(y)))
        y = self.norms[3](self.last(y))
        return y + F.relu(y)


def test_only_what_nobody_else_reads_is_fused() -> None:
    torch.manual_seed(0)
    assert check(Branching(), torch.randn(4, 1, 8, 8)) == [Fusion("last", "norms.3", False)]
