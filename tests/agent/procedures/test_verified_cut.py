"""A cut is made of the trace of its plan: with the same further calls, and what may be inexact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import secateur
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.tracing import TracedNetwork


class Embedding(nn.Module):
    """Embed images, behind a layer norm over channels, and classify them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 3), nn.LayerNorm(8)
        self.features, self.head = nn.Linear(8, 6), nn.Linear(6, 2)

    def embed(self, x: Tensor) -> Tensor:
        return self.features(self.norm(self.conv(x).relu().mean((2, 3))))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x).relu())


EXAMPLE = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
INEXACT = ("layernorm",)


def halved(network: TracedNetwork) -> PruningPlan:
    return PruningPlan.from_masks(network, [np.arange(width) < width // 2 for width in network.widths])


def test_what_another_call_gives_stays() -> None:
    model = Embedding().eval()
    plan = halved(secateur.trace(model, EXAMPLE, also_trace="embed", allow_inexact=INEXACT))
    smaller = secateur.cut(model, plan, example=EXAMPLE, also_trace="embed", allow_inexact=INEXACT)
    assert smaller.embed(EXAMPLE).shape == (2, 6)
    assert smaller.conv.weight.shape == (4, 1, 3, 3)


def test_a_plan_that_another_call_forbids_is_refused() -> None:
    model = Embedding().eval()
    plan = halved(secateur.trace(model, EXAMPLE, allow_inexact=INEXACT))
    assert secateur.cut(model, plan, example=EXAMPLE, allow_inexact=INEXACT).embed(EXAMPLE).shape == (2, 3)
    with pytest.raises(ValueError, match="they differ at layer 'features'; trace it as the plan was traced"):
        secateur.cut(model, plan, example=EXAMPLE, also_trace="embed", allow_inexact=INEXACT)


def test_what_may_be_inexact_has_to_be_said_again() -> None:
    model = Embedding().eval()
    plan = halved(secateur.trace(model, EXAMPLE, allow_inexact=INEXACT))
    with pytest.raises(ValueError, match="they differ at layer 'conv'; trace it as the plan was traced"):
        secateur.cut(model, plan, example=EXAMPLE)
