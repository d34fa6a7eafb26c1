"""What a run will take is said before it begins, and the search keeps to what the other stages leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from secateur.agent import prune
from secateur.agent.deciders.selection import SEEN_AND_UNSEEN
from secateur.agent.procedures import schedule
from secateur.agent.procedures.candidate_time import CandidateTime
from secateur.agent.procedures.config import PruningConfig
from secateur.agent.procedures.expected_choice import candidates_of_search, seconds_of_choice
from secateur.agent.procedures.goal import Goal
from secateur.agent.procedures.layerwise_choice import expected_candidates
from secateur.agent.procedures.schedule import Schedule
from secateur.agent.run.progress import estimated_duration
from secateur.envs.evaluation.base import Candidate
from secateur.envs.evaluation.evaluator import CandidateEvaluator
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.stopwatch import Stopwatch
from secateur.envs.tasks import ClassificationTask
from support.candidates import candidate
from support.small import plain_network


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "about 1 s"), (9.4, "about 9 s"), (38, "about 40 s"), (200, "about 3 min"), (9000, "about 2.5 h")],
)
def test_durations_are_said_as_exactly_as_they_are_known(seconds: float, said: str) -> None:
    assert estimated_duration(seconds) == said


def pretended_seconds(evaluator: CandidateEvaluator, masks: Candidate) -> float:
    """Take ten milliseconds for any candidate, and a tenth of one for each image."""
    statistics = sum(map(len, evaluator.bench.candidates.statistics_images))
    return 0.01 + 1e-4 * (evaluator.dense.images + statistics)


@pytest.mark.parametrize("images", [64, 256, 4096])
def test_what_does_not_depend_on_the_images_is_kept_apart(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    monkeypatch.setattr(CandidateEvaluator, "seconds_per_candidate", pretended_seconds)
    searched = problem.choice_problem(images)
    time = CandidateTime.measured(searched, images, candidate(problem, 0.5))
    assert (time.fixed, time.each) == pytest.approx((0.01, 1e-4))
    for others in (100, 2048):
        for splits in (("val",), SEEN_AND_UNSEEN):
            evaluator = problem.choice_problem(others, splits=splits).evaluator
            assert isinstance(evaluator, CandidateEvaluator)
            assert time.on(others, splits) == pytest.approx(pretended_seconds(evaluator, []))


@pytest.mark.parametrize(
    "options",
    [
        {"target_macs": 0.5, "method": "l2-uniform"},
        {"target_macs": 0.5, "effort": "quick"},
        {"target_macs": 0.5, "evaluations": 1},
        {"drop_bound": 30.0, "effort": "quick"},
        {"drop_bound": 30.0, "evaluations": 1},
        {"drop_bound": 30.0, "method": "l2-uniform", "max_sparsity": 0.55},
    ],
)
def test_layer_by_layer_as_many_candidates_are_expected_as_are_measured(
    digit_task: ClassificationTask, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    expected: list[int] = []

    def watched(problem: PruningProblem, goal: Goal, config: PruningConfig, time: CandidateTime) -> float:
        proposals = expected_candidates(problem.network, goal.decider, goal.reward.target)
        expected.append(proposals + candidates_of_search(problem, goal, config))
        seconds = seconds_of_choice(problem, goal, config, replace(time, fixed=1.0, each=0.0, evaluator=0.0))
        assert seconds == proposals + len(problem.network.layers)
        return seconds

    monkeypatch.setattr(schedule, "seconds_of_choice", watched)
    config = PruningConfig(
        procedure="layerwise", layer_epochs=0, epochs=0, batchnorm_images=64, search_images=32, **options
    )
    result = prune(plain_network(), digit_task, config)
    assert expected == [result.report["search"]["evaluations"]]


def test_each_stage_takes_as_long_as_what_it_measures_and_trains(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CandidateEvaluator, "seconds_per_candidate", pretended_seconds)
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
    planned = Schedule(search=500.0, choice=20.0, recovery=40.0, candidates=320)
    planned.announce(PruningConfig(), limit=None)
    planned.announce(PruningConfig(), limit=60.0)
    replace(planned, search=0.0, recovery=0.0).announce(PruningConfig(epochs=0), limit=None)
    replace(planned, finalists=90.0, finalists_epochs=15.0).announce(PruningConfig(), limit=None)
    first, limited, bare, halved = capsys.readouterr().err.splitlines()
    assert first.startswith("expected time: search, at most 320 candidates: about 8 min; choice: about 20 s")
    assert "about 60 s" in limited
    assert bare == "expected time: choice: about 20 s"
    assert "; 8 finalists, 15 epochs in all: about 90 s; fine-tuning" in halved
