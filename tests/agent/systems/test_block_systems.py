"""Blocks as systems of pruning."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from secateur.agent import PruningConfig
from secateur.agent.run.folder import RunFolder
from secateur.agent.systems.registry import SYSTEMS
from secateur.envs.problem.problem import PruningProblem
from support.promises import macs_of
from support.pruning_jobs import DIGIT, job_of

OPTIONS = {"epochs": 0, "search_images": 64, "compensation_images": 64}


def test_blocks_alone_keep_all_filters_of_the_rest(problem: PruningProblem) -> None:
    plan = SYSTEMS["blocks"](job_of(problem, 0.7, **OPTIONS)).plan
    assert plan is not None
    assert plan.blocks
    assert all(len(kept) == plan.filters[name] for name, kept in plan.kept.items())
    assert not any(name.startswith(plan.blocks) for name in plan.kept)


def test_a_target_below_what_is_left_without_blocks_is_refused(problem: PruningProblem) -> None:
    with pytest.raises(
        ValueError, match=r"cannot be reached by dropping blocks alone: without 2 .*keeps 0\."
    ):
        SYSTEMS["blocks"](job_of(problem, 0.05, **OPTIONS))


def test_a_target_that_blocks_and_filters_do_not_reach_is_told_for_the_dense_network(
    problem: PruningProblem,
) -> None:
    with pytest.raises(
        ValueError, match=r"target 1e-05 of the MACs .* without \d blocks? .* ask for"
    ) as refused:
        SYSTEMS["agent-blocks"](job_of(problem, 1e-5, effort="quick", **OPTIONS))
    reachable = float(str(refused.value).rpartition(" ")[2])
    result = SYSTEMS["agent-blocks"](job_of(problem, reachable, effort="quick", **OPTIONS))
    assert macs_of(result.model, DIGIT) <= reachable * macs_of(problem.model, DIGIT)


def test_a_target_of_one_drops_nothing(problem: PruningProblem) -> None:
    result = SYSTEMS["blocks"](job_of(problem, 1.0, **OPTIONS))
    assert result.plan is not None
    assert result.plan.blocks == ()


def test_a_job_that_is_run_again_drops_the_same_blocks(
    problem: PruningProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = OPTIONS | {"epochs": 1}
    with RunFolder(tmp_path / "run", PruningConfig(**options)) as folder:
        first = SYSTEMS["blocks"](job_of(problem, 0.7, folder, **options))
        monkeypatch.setattr("secateur.agent.systems.blocks._down_to_target", lambda *_: pytest.fail("again"))
        second = SYSTEMS["blocks"](job_of(problem, 0.7, folder, **options))
    assert first.plan == second.plan
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)
