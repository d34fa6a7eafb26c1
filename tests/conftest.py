"""What several rooms' tests share: problems that are made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from secateur.envs.demo import demo_problem
from secateur.envs.problem import PruningProblem
from secateur.envs.tasks import ClassificationTask, get_task

# The same examples every time, however busy the machine is.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")

# Two threads gain little on networks this small, and wait for each other where another process is busy.
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before fixtures of any scope are made
def pytest_runtest_setup() -> None:
    """Begin each test with the same random weights, whatever ran before it in this process."""
    torch.manual_seed(0)


def plain_network(seed: int = 0) -> nn.Sequential:
    """Build two convolutions and a linear layer, each layer with one producer and one consumer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 10, 3, padding=1, bias=False),
            nn.BatchNorm2d(10),
            nn.ReLU(),
            nn.Conv2d(10, 14, 3, padding=1, stride=2),
            nn.BatchNorm2d(14),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(14, 10),
        ).eval()


def pretended_latency(
    model: nn.Module, example: Tensor, *, seconds: float = 0.5, threads: int | None = None
) -> float:
    """Say, without looking at a clock, that a module takes 1 ms a thousand parameters, and a network more."""
    with torch.no_grad():
        model(example)  # what is timed has to run
    own = sum(parameter.numel() for parameter in model.parameters()) / 1000
    return own if next(model.children(), None) is None else 0.5 + 2 * own


@pytest.fixture
def without_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be timed, so that latencies are the same every time."""
    monkeypatch.setattr("secateur.envs.timing.latency_ms", pretended_latency)
    monkeypatch.setattr("secateur.envs.latency.latency_ms", pretended_latency)


@pytest.fixture(scope="session")
def problem() -> PruningProblem:
    """Give the demo CNN, trained for a moment."""
    return demo_problem()


@pytest.fixture(scope="session")
def digit_task() -> ClassificationTask:
    return get_task("digits", root=Path())


@pytest.fixture(scope="session")
def plain_problem(digit_task: ClassificationTask) -> PruningProblem:
    """Give a second network, untrained, with fewer and narrower layers than the demo CNN."""
    return PruningProblem.build("plain", plain_network(), digit_task, images=64, statistics_images=64)
