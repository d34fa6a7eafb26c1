"""What several rooms' tests share: problems that are made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from secateur.envs.environment.demo import demo_problem
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.tasks import ClassificationTask, get_task
from support.small import plain_network, pretended_latency

# The same examples every time, however busy the machine is.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")

# Two threads gain little on networks this small, and wait for each other where another process is busy.
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before fixtures of any scope are made
def pytest_runtest_setup() -> None:
    """Begin each test with the same random weights, whatever ran before it in this process."""
    torch.manual_seed(0)


@pytest.fixture
def without_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be timed, so that latencies are the same every time."""
    monkeypatch.setattr("secateur.envs.cost.profiling.latency_ms", pretended_latency)
    monkeypatch.setattr("secateur.envs.cost.timer.latency_ms", pretended_latency)


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
