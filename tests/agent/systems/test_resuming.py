"""A job that was stopped ends as if it had not been, whatever its system changes while it trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from secateur.agent.systems.registry import SYSTEMS
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.checkpoint import Checkpoint, Stopped
from support.pruning_jobs import Killed, job_of, resumed, same

STOPS = {
    "magnitude-global": [3],
    "iterative": [3, 3],
    "lottery": [2, 2],
    "lottery-rewinding": [1, 4],
    "lottery-filters": [2, 2],
    "rank": [3],
    "int8": [3],
    "small-dense-taught": [3],
}
"""By system, after how many steps each process ends."""

CHANGING = ["gradual", "dynamic", "gradual-filters", "dynamic-filters"]
"""Systems whose masks change while they train; they are killed, so that nothing saves a state on the way."""


@pytest.mark.parametrize("name", STOPS)
def test_a_stopped_job_ends_as_if_it_had_not_been(problem: PruningProblem, name: str, tmp_path: Path) -> None:
    system, job = SYSTEMS[name], job_of(problem, 0.4, epochs=1)
    whole, other = system(job), resumed(system, job, STOPS[name], Stopped, tmp_path / "run")
    assert same(whole.model, other.model)
    assert whole.plan == other.plan
    assert whole.details == other.details


@pytest.mark.parametrize("name", CHANGING)
def test_a_killed_job_has_the_masks_of_its_last_checkpoint(
    problem: PruningProblem, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoint, "due", True)
    system, job = SYSTEMS[name], job_of(problem, 0.4, epochs=1)
    whole, other = system(job), resumed(system, job, [2, 3], Killed, tmp_path / "run")
    assert same(whole.model, other.model)
    assert whole.details == other.details
