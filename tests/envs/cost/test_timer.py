"""Timing a forward pass: how long it takes, and what it leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from secateur.envs.cost.config import LatencyConfig
from secateur.envs.cost.timer import (
    Timing,
    _timing,
    compare_throughput,
    latency_ms,
    time_passes,
    timed_copy,
)

EXAMPLE = torch.ones(1, 1, 8, 8)
CPU = torch.device("cpu")


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


class Waiter(nn.Module):
    """Takes two milliseconds or more, and notes its name."""

    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__()
        self.name, self.log = name, log

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.002)
        self.log.append(self.name)
        return x


def test_networks_take_turns_and_neither_is_always_first() -> None:
    log: list[str] = []
    timings = time_passes([Waiter("a", log), Waiter("b", log)], EXAMPLE, seconds=0.05)
    assert "".join(log[2:10]) == "abbaabba"
    assert log.count("a") == log.count("b") >= 6
    for timing in timings:
        low, median, high = timing.quartiles_ms
        assert 2 <= timing.fastest_ms <= low <= median <= high
        assert timing.median_ms == median
        assert timing.images_per_second == pytest.approx(1000 / median)


def test_a_few_rounds_are_timed_even_if_they_take_longer_than_was_given() -> None:
    log: list[str] = []
    time_passes([Waiter("a", log), Waiter("b", log)], EXAMPLE, seconds=0.005)
    assert len(log) >= 2 + 2 * 3


def test_a_thread_that_waits_for_its_core_is_seen_and_one_that_computes_is_not_accused() -> None:
    wall = np.full(9, 0.01)
    assert _timing(1, wall, 0.98 * wall, CPU) == Timing(1, 10.0, (10.0, 10.0, 10.0), busy=False)
    assert _timing(1, wall, 0.5 * wall, CPU).busy
    assert not _timing(1, wall, 0.0 * wall, torch.device("cuda")).busy  # the thread waits for the GPU
    assert not _timing(1, np.array([0.01] * 8 + [0.5]), np.full(9, 0.01), CPU).busy  # once is no habit
    assert _timing(1, np.array([0.01, 0.02, 0.03] * 3), np.array([0.01, 0.02, 0.03] * 3), CPU).busy


@pytest.mark.slow
def test_a_machine_with_more_work_than_cores_is_seen() -> None:
    spin = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    others = [subprocess.Popen(spin, stdout=subprocess.PIPE) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        for process in others:
            assert process.stdout is not None
            process.stdout.readline()  # it spins from now on
        model = nn.Conv2d(64, 256, 3)
        (timing,) = time_passes([model], torch.randn(8, 64, 56, 56), seconds=2.0, threads=1)
    finally:
        for process in others:
            process.kill()
            process.communicate()
    assert timing.busy, timing


@pytest.mark.parametrize(
    ("shape", "config", "largest", "batch"),
    [
        ((3, 32, 32), LatencyConfig(), None, 128),
        ((1, 8, 8), LatencyConfig(), None, 128),
        ((3, 224, 224), LatencyConfig(), None, 4),
        ((3, 720, 960), LatencyConfig(), None, 1),
        ((3, 224, 224), LatencyConfig(batch=7), None, 7),
        ((3, 32, 32), LatencyConfig(), 10, 10),
        ((16,), LatencyConfig(), None, 128),
    ],
)
def test_the_batch_of_a_throughput_fills_a_core_and_no_more(
    shape: tuple[int, ...], config: LatencyConfig, largest: int | None, batch: int
) -> None:
    (timing,) = compare_throughput([Batch()], shape, config, largest)
    assert timing.batch == batch


class Batch(nn.Module):
    """Has memory for so many images, and a parameter, as all networks have one."""

    def __init__(self, room: int = 10**9) -> None:
        super().__init__()
        self.room, self.scale = room, nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return self.scale * x.flatten(1)[:, :1]


def test_a_batch_that_does_not_fit_into_memory_is_halved() -> None:
    timings = compare_throughput([Batch(), Batch(room=20)], (3, 32, 32), LatencyConfig())
    assert [timing.batch for timing in timings] == [16, 16]
    with pytest.raises(RuntimeError, match="out of memory"):
        compare_throughput([Batch(room=0)], (3, 32, 32), LatencyConfig())


@pytest.mark.parametrize("computed", ["mask", "weight_norm", "parametrization", "old spectral_norm"])
def test_a_network_is_timed_as_it_ships_without_computing_its_weights(computed: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()
    {
        "mask": lambda layer: prune.random_unstructured(layer, "weight", 0.5),
        "weight_norm": nn.utils.weight_norm,
        "parametrization": nn.utils.parametrizations.weight_norm,
        "old spectral_norm": nn.utils.spectral_norm,
    }[computed](model[0])
    placed, batch = timed_copy(model, (1, 8, 8), LatencyConfig())
    assert isinstance(placed[0]._parameters["weight"], nn.Parameter)
    assert not placed[0]._forward_pre_hooks
    assert type(placed[0]) is nn.Conv2d
    x = torch.randn_like(batch)
    torch.testing.assert_close(placed(x), model(x))
    assert set(dict(model[0].named_parameters())) != {"weight", "bias"}
