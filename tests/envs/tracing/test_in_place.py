"""Operations in place are traced as what they do, whatever tags a release of torch gives them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from secateur.envs.surgery.verification import TOLERANCE, trace_exactly
from support.promises import masked_difference, random_plan, randomised


class Activated(nn.Module):
    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        self.first, self.last = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.activation(self.first(x)))


@pytest.mark.parametrize(
    "activation",
    [
        nn.Mish(inplace=True),
        nn.Threshold(0.1, 0.0, inplace=True),
        nn.LeakyReLU(inplace=True),
        nn.ELU(inplace=True),
        torch.Tensor.abs_,
        torch.ops.aten.gelu_,
    ],
    ids=str,
)
def test_an_activation_in_place_pins_nothing(activation: Callable[[Tensor], Tensor]) -> None:
    model, example = randomised(Activated(activation)), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    network = trace_exactly(model, example)
    assert network.prunable_share == 1
    plan = random_plan(network, 0.5)
    assert masked_difference(model, network, plan, plan, (example,)) <= TOLERANCE
