"""The smallest network that keeps a drop bound after its recovery, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

import secateur
from secateur.agent import PruningConfig
from secateur.agent.deciders.selection import FINALISTS
from secateur.agent.procedures.bound_search import CHECKS, SIZES, targets_of
from secateur.agent.procedures.drop_bound import notes_on_bound
from secateur.agent.procedures.prune import PruningResult
from secateur.agent.run.graceful_stop import GracefulStop
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.batchnorm import reestimate_batchnorm
from secateur.envs.recovery.checkpoint import Stopped
from secateur.envs.tasks import ClassificationTask, get_task, measure
from secateur.envs.tasks.held_back import hold_back

BRIEF: dict[str, Any] = {"method": "l2-uniform", "epochs": 1, "search_images": 64, "seed": 1}


@pytest.fixture(scope="module")
def task() -> ClassificationTask:
    """Give the digits with enough images of val to hold half of them back."""
    return get_task("digits", root=Path(), val_fraction=0.4)


@pytest.fixture(scope="module")
def counted(
    problem: PruningProblem, task: ClassificationTask, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PruningResult, int]:
    """Give a run, and how often it could have been stopped, which differs from machine to machine."""
    out = tmp_path_factory.mktemp("bounded") / "run"
    with mock.patch.object(GracefulStop, "check") as check:
        return secateur.prune(problem.model, task, drop_bound=5, out=out, **BRIEF), check.call_count


@pytest.fixture(scope="module")
def bounded(counted: tuple[PruningResult, int]) -> PruningResult:
    return counted[0]


def check_of(result: PruningResult) -> dict[str, Any]:
    found: dict[str, Any] = result.report["drop_bound"]["on_val"]
    return found


def test_the_smallest_network_that_was_found_to_keep_the_bound_is_given(bounded: PruningResult) -> None:
    check = check_of(bounded)
    kept = [each["macs_ratio"] for each in check["checked"] if each["met"] == "yes"]
    assert check["met"] == "yes"
    assert check["macs_ratio"] == min(kept) == pytest.approx(bounded.report["ratios"]["macs"])
    assert check["interval"][1] <= 5
    assert len(check["checked"]) <= CHECKS
    assert bounded.report["ratios"]["macs"] < 0.5


def test_what_is_said_of_val_is_what_the_network_does_on_the_half_that_nothing_was_chosen_by(
    bounded: PruningResult, problem: PruningProblem, task: ClassificationTask
) -> None:
    halves = hold_back(task, BRIEF["seed"])
    dense, pruned = (measure(model, halves.judge, "val") for model in (problem.model, bounded.model))
    check = check_of(bounded)
    assert check["unseen"]
    assert check["images"] == dense.images == halves.judge.size("val")
    assert check["drop"] == dense.accuracy - pruned.accuracy


@pytest.mark.slow
def test_a_looser_bound_gives_a_smaller_network(
    bounded: PruningResult, problem: PruningProblem, task: ClassificationTask
) -> None:
    loose = secateur.prune(problem.model, task, drop_bound=30, **BRIEF)
    assert loose.report["ratios"]["macs"] < bounded.report["ratios"]["macs"]


@pytest.mark.slow
def test_the_recovery_is_in_the_bound(
    bounded: PruningResult, problem: PruningProblem, task: ClassificationTask
) -> None:
    untrained = secateur.prune(problem.model, task, drop_bound=5, **{**BRIEF, "epochs": 0})
    assert check_of(untrained)["met"] == "yes"
    assert bounded.report["ratios"]["macs"] < untrained.report["ratios"]["macs"]
    assert untrained.report["recovery"]["losses"] == []


def test_a_search_gives_a_plan_that_keeps_the_bound_as_it_is_cut(
    problem: PruningProblem, task: ClassificationTask
) -> None:
    before = [weights.clone() for weights in problem.model.parameters()]
    options = {name: value for name, value in BRIEF.items() if name != "epochs"}
    plan = secateur.search(problem.model, task, drop_bound=5, **options)
    assert all(map(torch.equal, before, problem.model.parameters()))
    pruned = secateur.cut(problem.model, plan, task=hold_back(task, BRIEF["seed"]).search)
    reestimate_batchnorm(pruned, task, images=2048, seed=1)
    judge = hold_back(task, BRIEF["seed"]).judge
    assert measure(problem.model, judge, "val").accuracy - measure(pruned, judge, "val").accuracy <= 5


@pytest.mark.slow
def test_the_agent_and_heuristics_propose_every_size(
    problem: PruningProblem, task: ClassificationTask
) -> None:
    result = secateur.prune(problem.model, task, drop_bound=5, epochs=0, search_images=64, effort="quick")
    tried = len(check_of(result)["forecasts"])
    looked_at, chosen = (2 + 3 + 5) + (FINALISTS + 1), 2  # the chosen one, and the best heuristic
    assert 5 * tried < result.report["search"]["evaluations"] <= (looked_at + chosen) * tried
    assert result.report["method"].startswith("ppo (frozen")
    assert result.report["search"]["agent"]


@pytest.mark.slow
def test_a_bound_that_nothing_keeps_is_said(problem: PruningProblem, task: ClassificationTask) -> None:
    destructive = {**BRIEF, "learning_rate": 3.0, "warmup": 0.0, "distillation_weight": 0.0}
    result = secateur.prune(problem.model, task, drop_bound=1, **destructive)
    assert check_of(result)["met"] == "no"
    assert any("No smaller network was found" in note for note in result.report["splits"]["notes"])
    assert max(each["macs_ratio"] for each in check_of(result)["checked"]) > 0.9


def test_on_images_that_the_choice_has_seen_a_bound_is_not_said_to_be_kept(
    problem: PruningProblem, digit_task: ClassificationTask
) -> None:
    result = secateur.prune(problem.model, digit_task, drop_bound=20, **BRIEF)
    assert not check_of(result)["unseen"]
    assert check_of(result)["met"] == "undecided"
    assert any("chosen by" in note for note in result.report["splits"]["notes"])


def test_too_few_images_for_a_bound_are_said() -> None:
    halves: Any = SimpleNamespace(judge=SimpleNamespace(size=lambda split: 300), are_apart=True)
    found: Any = SimpleNamespace(excess=-0.1, interval=(-1.0, 1.2), drop=-0.1, met="undecided")
    (note,) = notes_on_bound(found, 0.5, halves)
    assert note.startswith("300 images of val cannot show that a drop is within 0.5 points")
    assert "1.30 points above" in note


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_on_val": True}, "train_on_val=True would leave none; leave it out"),
        ({"evaluations": 32}, "leave out evaluations"),
        ({"minutes": 1.0}, "leave out minutes"),
        ({"agent": "none"}, "leave out agent"),
    ],
)
def test_options_that_leave_a_bound_nothing_to_do_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PruningConfig(drop_bound=2.0, **options)
    if "minutes" not in options:  # which layerwise has no use for, either
        PruningConfig(drop_bound=2.0, procedure="layerwise", **{"evaluations": 32, **options})


def test_sizes_rise_from_the_smallest_to_the_least_cut(problem: PruningProblem) -> None:
    targets = targets_of(problem)
    assert len(targets) == SIZES
    assert np.all(np.diff(targets) > 0)
    assert 0 < targets[0] < 0.02
    assert 0.9 < targets[-1] < 1


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0, 0.3, 0.6, 0.95])
def test_a_run_that_is_stopped_at_any_stage_ends_with_the_same_bits(
    moment: float, problem: PruningProblem, task: ClassificationTask, counted: tuple[PruningResult, int],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    bounded, checks = counted
    calls = 0

    def check(self: GracefulStop) -> None:
        nonlocal calls
        calls += 1
        if calls == 1 + int(moment * checks):
            raise Stopped("resume")

    options = {"drop_bound": 5, "out": tmp_path / "run", "resume": True, **BRIEF}
    with monkeypatch.context() as patch:
        patch.setattr(GracefulStop, "check", check)
        with pytest.raises(Stopped):
            secateur.prune(problem.model, task, **options)
    result = secateur.prune(problem.model, task, **options)
    assert result.plan == bounded.plan
    for one, other in zip(
        result.model.state_dict().values(), bounded.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)
    assert check_of(result) == check_of(bounded)
    assert result.report["search"]["evaluations"] == bounded.report["search"]["evaluations"]
    assert (
        json.loads((tmp_path / "run" / "report.json").read_text())["drop_bound"]
        == result.report["drop_bound"]
    )
    assert not (tmp_path / "run" / "checkpoints").exists()
