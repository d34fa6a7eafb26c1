"""What a run will take is said before it begins, and the search keeps to what the other stages leave."""

from __future__ import annotations

import dataclasses

import pytest

from secateur.agent.procedures import schedule
from secateur.agent.procedures.config import PruningConfig
from secateur.agent.procedures.goal import Goal
from secateur.agent.procedures.schedule import Schedule
from secateur.agent.run.progress import estimated_duration
from secateur.envs.evaluation.evaluator import CandidateEvaluator
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.stopwatch import Stopwatch


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "about 1 s"), (9.4, "about 9 s"), (38, "about 40 s"), (200, "about 3 min"), (9000, "about 2.5 h")],
)
def test_durations_are_said_as_exactly_as_they_are_known(seconds: float, said: str) -> None:
    assert estimated_duration(seconds) == said


def test_each_stage_takes_as_long_as_what_it_measures_and_trains(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CandidateEvaluator, "seconds_per_candidate", lambda evaluator, masks: 0.01)
    monkeypatch.setattr(
        schedule, "training_seconds", lambda model, task, config, teacher: 0.5 * config.recipe.epochs
    )

    def estimate(**options: object) -> Schedule:
        config = PruningConfig(**options)  # type: ignore[arg-type]
        return Schedule.estimate(
            problem, Goal.resolve(config, problem.network), config, None, finalists_epochs=2.0
        )

    quick, whole = estimate(effort="quick", epochs=0), estimate(epochs=4)
    assert quick.search == quick.recovery == 0 < quick.choice
    assert estimate(evaluations=6400).search == pytest.approx(20 * whole.search)
    assert estimate(effort="quick", epochs=40).recovery == pytest.approx(10 * whole.recovery)
    assert estimate(method="l2-uniform").choice < quick.choice
    assert estimate(method="l2-uniform").finalists == estimate(drop_bound=3.0).finalists == 0
    assert estimate(procedure="layerwise", evaluations=16).finalists == 0
    assert 0 < quick.finalists < whole.finalists


def test_the_search_gets_what_the_other_stages_leave_of_the_minutes() -> None:
    planned = Schedule(search=500.0, choice=20.0, recovery=40.0)
    assert planned.search_limit(None, Stopwatch()) is None
    assert planned.search_limit(3.0, Stopwatch(earlier=30.0)) == pytest.approx(90.0, abs=1.0)
    assert planned.search_limit(1.0, Stopwatch(earlier=30.0)) == 1.0


def test_the_finalists_get_what_the_recovery_leaves_of_the_minutes() -> None:
    planned = Schedule(search=0.0, choice=20.0, recovery=40.0, finalists=60.0)
    assert planned.search_limit(3.0, Stopwatch(earlier=30.0)) == pytest.approx(30.0, abs=1.0)
    shares = [planned.affordable(minutes, Stopwatch(earlier=50.0)) for minutes in (None, 10.0, 2.0, 1.0)]
    assert shares == pytest.approx([1.0, 1.0, 0.5, 0.0], abs=0.01)


def test_minutes_that_the_other_stages_exceed_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    Schedule(search=500.0, choice=20.0, recovery=40.0).search_limit(0.5, Stopwatch())
    said = capsys.readouterr().err
    assert "expected to take about 60 s, more than --minutes 0.5 leaves" in said
    assert "give fewer --epochs" in said


def test_expected_times_are_announced(capsys: pytest.CaptureFixture[str]) -> None:
    planned = Schedule(search=500.0, choice=20.0, recovery=40.0)
    planned.announce(PruningConfig(), limit=None)
    planned.announce(PruningConfig(), limit=60.0)
    dataclasses.replace(planned, search=0.0, recovery=0.0).announce(PruningConfig(epochs=0), limit=None)
    dataclasses.replace(planned, finalists=90.0, finalists_epochs=15.0).announce(PruningConfig(), limit=None)
    first, limited, bare, halved = capsys.readouterr().err.splitlines()
    assert first.startswith("expected time: search, at most 320 candidates: about 8 min; choice: about 20 s")
    assert "about 60 s" in limited
    assert bare == "expected time: choice: about 20 s"
    assert "; 8 finalists, 15 epochs in all: about 90 s; fine-tuning" in halved
