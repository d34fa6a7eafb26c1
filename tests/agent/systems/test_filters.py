"""The agent as a system: its finalists share the passes of a job."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from secateur.agent.systems.registry import SYSTEMS
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery import finetuning
from support.pruning_jobs import STEPS, job_of


@pytest.mark.parametrize(("epochs", "effort"), [(1, "quick"), (1, "normal"), (2, "quick"), (4, "normal")])
def test_a_job_has_its_epochs_whether_or_not_they_are_enough_for_finalists(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch, epochs: int, effort: str
) -> None:
    take_step = Mock(side_effect=finetuning._take_step)
    monkeypatch.setattr(finetuning, "_take_step", take_step)
    options = {"search_images": 32, "compensation_images": 64, "evaluations": 0}
    result = SYSTEMS["agent"](job_of(problem, 0.5, epochs=epochs, effort=effort, **options))
    assert (epochs - 0.5) * STEPS < take_step.call_count <= epochs * STEPS
    assert result.epochs == pytest.approx(take_step.call_count / STEPS)
