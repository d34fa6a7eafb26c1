"""Timing a forward pass: how long it takes, and what it leaves alone."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from secateur.envs.cost.config import LatencyConfig
from secateur.envs.cost.timer import latency_ms, timed_copy

EXAMPLE = torch.ones(1, 1, 8, 8)


class Sleeper(nn.Module):
    """Takes five milliseconds or more, and counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        time.sleep(0.005)
        return x


def test_no_more_passes_are_run_than_fit_into_the_time_that_is_given() -> None:
    model = Sleeper()
    assert latency_ms(model, EXAMPLE, seconds=0.1) >= 5
    assert 2 <= model.passes <= 0.1 / 0.005 + 2  # one before the clock starts, one that ends after it


def test_a_network_of_microseconds_takes_about_the_time_that_is_given() -> None:
    began = time.perf_counter()
    latency_ms(nn.ReLU(), EXAMPLE, seconds=0.3)
    assert 0.3 <= time.perf_counter() - began < 1.5


def test_one_pass_is_timed_however_little_time_is_given() -> None:
    model = Sleeper()
    assert latency_ms(model, EXAMPLE, seconds=1e-9) >= 5
    assert model.passes == 2


def test_timing_leaves_modes_and_threads_as_they_were_though_the_network_fails() -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError(f"{torch.get_num_threads()} threads")

    model = nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1), Failing()).train()
    model[0].eval()
    threads = torch.get_num_threads()
    with pytest.raises(RuntimeError, match=f"{threads + 1} threads"):
        latency_ms(model, EXAMPLE, threads=threads + 1)
    assert [module.training for module in model.modules()] == [True, False, True, True]
    assert torch.get_num_threads() == threads


def test_each_pass_sees_the_example_as_it_was_given() -> None:
    class Adding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.seen = nn.Parameter(torch.zeros(())), set[float]()

        def forward(self, x: Tensor) -> Tensor:
            self.seen.add(float(x.mean()))
            return x.add_(1.0)

    model, example = Adding(), EXAMPLE.clone()
    latency_ms(model, example, seconds=0.001)
    assert model.seen == {1.0}
    assert torch.equal(example, EXAMPLE)
    _, batch = timed_copy(model, tuple(EXAMPLE.shape[1:]), LatencyConfig())
    assert not batch.any()
