"""What is counted, and what is timed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from secateur.envs.cost.counts import cost
from secateur.envs.cost.timer import latency_ms
from secateur.envs.tracing import trace
from support.networks import OWN, Architecture
from support.promises import macs_of


@pytest.mark.parametrize("architecture", OWN, ids=lambda a: a.name)
def test_the_dense_count_is_that_of_torch(architecture: Architecture) -> None:
    model = architecture.model().eval()
    dense = cost(trace(model, architecture.example(3)))
    assert dense.macs == macs_of(model, *architecture.example(1))
    assert dense.params == sum(p.numel() for p in model.parameters())


class Attention(nn.Module):
    """Two heads over the 16 places of an image, after a convolution of 3 to 8 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        places = self.conv(images).flatten(2).transpose(1, 2)
        return self.attention(places, places, places, need_weights=False)[0]


def test_the_products_of_attention_are_counted() -> None:
    macs = {"conv": 3 * 8 * 16, "four projections": 4 * 8 * 8 * 16, "two products": 2 * 8 * 16 * 16}
    images = torch.randn(3, 3, 4, 4)
    assert cost(trace(Attention(), images)).macs == sum(macs.values()) == macs_of(Attention(), images)


def test_costs_of_many_candidates_come_at_once_and_fall_with_every_filter() -> None:
    network = trace(OWN[0].model(), OWN[0].example())
    kept = np.random.default_rng(0).integers(1, network.widths + 1, (5, len(network.layers)))  # (B, L)
    assert network.macs(kept).shape == network.params(kept).shape == (5,)
    for row, macs, params in zip(kept, network.macs(kept), network.params(kept), strict=True):
        assert (cost(network, row).macs, cost(network, row).params) == (round(macs), round(params))
    for layer in np.flatnonzero(kept[0] > 1):
        fewer = kept[0].copy()
        fewer[layer] -= 1
        assert network.macs(fewer) < network.macs(kept[0])
        assert network.params(fewer) < network.params(kept[0])


def test_what_is_fixed_costs_the_same_whatever_is_kept() -> None:
    network = trace(nn.Sequential(nn.Conv2d(3, 4, 1)), torch.randn(2, 3, 5, 5))
    assert network.layers == ()
    assert cost(network) == cost(network, np.zeros(0))
    assert (cost(network).macs, cost(network).params, cost(network).filters) == (300, 16, 0)


def test_latency_is_positive_and_the_mode_is_left_as_it_was() -> None:
    model = nn.Conv2d(3, 4, 3)
    assert latency_ms(model, torch.randn(1, 3, 16, 16), seconds=0.01) > 0
    assert model.training
