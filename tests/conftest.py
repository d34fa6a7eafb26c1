"""What several rooms' tests share: problems that are made once, and a clock that does not wait.

Torch is imported where it is used, so that the tests of a room that needs none start at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from secateur.envs.problem.problem import PruningProblem
    from secateur.envs.tasks import ClassificationTask

# The same examples every time, however busy the machine is.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")

# Two threads gain little on networks this small, and wait for each other where another process is busy.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.hookimpl(tryfirst=True)  # before fixtures of any scope are made
def pytest_runtest_setup() -> None:
    """Begin each test with the same random weights, whatever ran before it in this process."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def brief_clock() -> Iterator[None]:
    """Let whole networks be timed for a moment only: what it takes by default is most of a small job."""
    if "torch" not in sys.modules:  # nothing was collected that could time a network
        yield
        return
    from secateur.envs.cost.timer import time_passes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("secateur.envs.cost.timer.time_passes", partial(time_passes, seconds=0.01))
        yield


@pytest.fixture
def without_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be timed, so that latencies are the same every time."""
    from support.small import pretended_latency, pretended_times

    monkeypatch.setattr("secateur.envs.cost.latency_bounds.latency_ms", pretended_latency)
    monkeypatch.setattr("secateur.envs.cost.profiling.latency_ms", pretended_latency)
    monkeypatch.setattr("secateur.envs.cost.timer.time_passes", pretended_times)


@pytest.fixture(scope="session")
def problem() -> PruningProblem:
    """Give the demo CNN, trained for a moment."""
    from secateur.envs.environment.demo import demo_problem

    return demo_problem()


@pytest.fixture(scope="session")
def digit_task() -> ClassificationTask:
    from secateur.envs.tasks import get_task

    return get_task("digits", root=Path())


@pytest.fixture(scope="session")
def plain_problem(digit_task: ClassificationTask) -> PruningProblem:
    """Give a second network, untrained, with fewer and narrower layers than the demo CNN."""
    from secateur.envs.problem.problem import PruningProblem
    from support.small import plain_network

    return PruningProblem.build("plain", plain_network(), digit_task, images=64, statistics_images=64)
