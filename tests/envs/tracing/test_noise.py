"""Random operations in a forward pass: traced and silenced, or pinned with their name as the reason."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.surgery.deterministic_mode import DeterministicMode
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import TOLERANCE, trace_exactly, verify_cut
from secateur.envs.tracing.rules import rule_for
from secateur.envs.tracing.rules.noise import CONSTANTS, noise
from support.promises import random_plan

IMAGES = torch.rand(2, 3, 9, 9)


class Noisy(nn.Module):
    """Three convolutions, with something random after the first."""

    def __init__(self, draw: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3)
        self.last = nn.Conv2d(6, 2, 1)
        self.draw = draw

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.second(self.draw(F.relu(self.first(x))))))


def own(generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """Draw from a generator that is none of torch's: its state goes on."""
    return lambda x: x * torch.rand(x.shape, generator=generator)


def pooled(x: Tensor) -> Tensor:
    return F.fractional_max_pool2d(x, 2, output_size=5)


TRACED: dict[str, Callable[[Tensor], Tensor]] = {
    "dropout": lambda x: F.dropout(x, 0.5),
    "dropout2d": lambda x: F.dropout2d(x, 0.5),
    "alpha dropout": lambda x: F.alpha_dropout(x, 0.5, training=True),
    "feature alpha dropout": lambda x: F.feature_alpha_dropout(x, 0.5, training=True),
    "rrelu": lambda x: F.rrelu(x - 0.2, training=True),
    "rrelu_": lambda x: F.rrelu_(x - 0.2, training=True),
    "fractional pooling": pooled,
    "gumbel softmax over pixels": lambda x: F.gumbel_softmax(x, dim=-1),
    "gumbel of uniform numbers": lambda x: x - (-torch.rand_like(x).log()).log(),
    "rand": lambda x: x * torch.rand(x.shape),
    "own generator": own(torch.Generator().manual_seed(1)),
    "rand_like": lambda x: x * torch.rand_like(x),
    "randn": lambda x: x + torch.randn(x.shape),
    "randn_like": lambda x: x + torch.randn_like(x),
    "randint": lambda x: x * torch.randint(0, 2, x.shape),
    "randint of one": lambda x: x + torch.randint(5, 6, x.shape),
    "randint_like": lambda x: x * torch.randint_like(x, 3),
    "bernoulli": lambda x: x * torch.bernoulli(torch.sigmoid(x)),
    "bernoulli_": lambda x: x * torch.empty_like(x).bernoulli_(0.3),
    "bernoulli_ of probabilities": lambda x: x * torch.empty_like(x).bernoulli_(torch.sigmoid(x)),
    "uniform_": lambda x: x * torch.empty_like(x).uniform_(0.5, 0.7),
    "normal_": lambda x: x * torch.empty_like(x).normal_(1.0, 0.1),
    "normal": lambda x: torch.normal(x, 0.1),
    "normal of two": lambda x: torch.normal(x, x.abs()),
    "exponential_": lambda x: x * torch.empty_like(x).exponential_(),
    "cauchy_": lambda x: x * torch.empty_like(x).cauchy_(),
    "log_normal_": lambda x: x * torch.empty_like(x).log_normal_(),
    "geometric_": lambda x: x * torch.empty_like(x).geometric_(0.5),
    "random_": lambda x: x * torch.empty_like(x).random_(0, 7),
    "random pixels": lambda x: x[:, :, (torch.rand(4) * x.shape[2]).long()],
    "shuffled pixels": lambda x: x[:, :, torch.randperm(x.shape[2])],
    "chosen pixels": lambda x: x[:, :, torch.multinomial(torch.ones(x.shape[2]), 4)],
    "counts beside": lambda x: x + torch.poisson(torch.full((x.shape[2], 1), 3.0)),
    "binomial beside": lambda x: x + torch.binomial(torch.full((7, 1), 5.0), torch.full((7, 1), 0.5)),
    "gamma beside": lambda x: x * torch._standard_gamma(torch.full((7, 1), 2.0)),
}

PINNED: dict[str, Callable[[Tensor], Tensor]] = {
    "poisson": torch.poisson,
    "binomial": lambda x: torch.binomial(torch.full_like(x, 4.0), torch.sigmoid(x)),
    "_standard_gamma": lambda x: torch._standard_gamma(x + 1),
    "_sample_dirichlet": lambda x: torch._sample_dirichlet(x + 1),
    "multinomial": lambda x: x * torch.multinomial(x.flatten(1) + 1, 1)[:, :, None, None],
}


@pytest.mark.parametrize("name", TRACED)
def test_what_draws_at_random_is_cut_exactly(name: str) -> None:
    model = Noisy(TRACED[name])
    network = trace_exactly(model, IMAGES)
    assert {layer.name: layer.filters for layer in network.layers} == {"first": 8, "second": 6}
    for seed in range(3):
        assert verify_cut(model, network, random_plan(network, 0.5, seed), IMAGES) <= TOLERANCE


@pytest.mark.parametrize("name", PINNED)
def test_what_has_no_rule_pins_what_it_draws_for_and_says_so_and_nothing_else(name: str) -> None:
    network = trace_exactly(Noisy(PINNED[name]), IMAGES)
    reasons = {layer.name: str(layer.cause) for layer in network.pinned}
    assert f"{name} has no tracing rule" in reasons["first"]
    assert [layer.name for layer in network.layers] == ["second"]


def test_channels_that_are_shuffled_at_random_stay() -> None:
    network = trace_exactly(Noisy(lambda x: x[:, torch.randperm(x.shape[1])]), IMAGES)
    assert "selected by position" in {p.name: str(p.cause) for p in network.pinned}["first"]


def test_samples_of_a_fractional_pooling_go_with_their_channels() -> None:
    class Pools(Noisy):
        def __init__(self) -> None:
            super().__init__(pooled)
            self.register_buffer("samples", torch.rand(2, 8, 2))

        def forward(self, x: Tensor) -> Tensor:
            pooled = F.fractional_max_pool2d(self.first(x), 2, output_size=5, _random_samples=self.samples)
            return self.last(F.relu(self.second(pooled)))

    model = Pools()
    network = trace_exactly(model, IMAGES)
    assert [layer.name for layer in network.layers] == ["first", "second"]
    smaller = PruningPlan.from_masks(network, [np.arange(8) > 2, np.ones(6, np.bool_)])
    assert verify_cut(model, network, smaller, IMAGES) <= TOLERANCE


def test_one_list_says_what_is_traced_and_what_is_silenced() -> None:
    """Whoever gives a random operation a rule has to say which constant stands for it."""
    for name in dir(torch.ops.aten):
        packet = getattr(torch.ops.aten, name)
        for overload in packet.overloads() if hasattr(packet, "overloads") else ():
            func = getattr(packet, overload)
            plain = func._schema.name.removeprefix("aten::").rstrip("_")
            has_rule = rule_for(func).__name__ != "pin_everything"
            if torch.Tag.nondeterministic_seeded in func.tags:
                assert not has_rule or plain in CONSTANTS or "attention" in name, func
            else:
                assert rule_for(func) is not noise, func
    assert rule_for(torch.ops.aten.rrelu.default).__name__ == "pin_everything"  # it is pointwise and random


def test_operations_that_are_not_traced_draw_the_same_each_time() -> None:
    generator = torch.Generator().manual_seed(3)

    def draws() -> list[Tensor]:
        with DeterministicMode():
            return [
                torch.randperm(50),
                torch.randperm(50, generator=generator),
                torch.poisson(torch.ones(50)),
            ]

    before = torch.get_rng_state()
    one, other = draws(), draws()
    assert all(map(torch.equal, one, other))
    assert torch.equal(torch.get_rng_state(), before)
