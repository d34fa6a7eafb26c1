"""Blocks as systems of pruning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.agent import PruningConfig
from secateur.agent.run.folder import RunFolder
from secateur.agent.systems.base import Job
from secateur.agent.systems.registry import SYSTEMS
from secateur.envs.modules.copying import replica
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.cutting import load_pruned, save_pruned
from secateur.envs.tracing import trace

CONFIG = PruningConfig(effort="quick", epochs=2, search_images=64, compensation_images=64)


def job(problem: PruningProblem, target: float, folder: RunFolder | None = None) -> Job:
    return Job("demo", problem.model, problem.task, problem.network, target, CONFIG, folder)


@pytest.mark.parametrize(
    ("name", "target"), [("blocks", 0.7), pytest.param("agent-blocks", 0.4, marks=pytest.mark.slow)]
)
def test_a_system_meets_its_target_and_its_plan_rebuilds_it(
    problem: PruningProblem, name: str, target: float, tmp_path: Path
) -> None:
    before = {key: tensor.clone() for key, tensor in problem.model.state_dict().items()}
    result = SYSTEMS[name](job(problem, target))
    assert all(torch.equal(tensor, before[key]) for key, tensor in problem.model.state_dict().items())
    assert SYSTEMS[name].kind == "blocks"
    example = torch.zeros(2, 1, 8, 8)
    smaller, dense = (trace(model, example) for model in (result.model, problem.model))
    assert float(smaller.macs(smaller.widths)) <= target * float(dense.macs(dense.widths))
    assert result.epochs <= CONFIG.recovery.recipe.epochs
    assert not result.model.training
    assert result.plan is not None
    save_pruned(result.model, result.plan, tmp_path)
    images, _ = problem.task.batch("test", torch.arange(8))
    with torch.no_grad():
        again = load_pruned(lambda: replica(problem.model), tmp_path)
        assert torch.equal(again(images), result.model(images))


def test_blocks_alone_keep_all_filters_of_the_rest(problem: PruningProblem) -> None:
    plan = SYSTEMS["blocks"](job(problem, 0.7)).plan
    assert plan is not None
    assert plan.blocks
    assert all(len(kept) == plan.filters[name] for name, kept in plan.kept.items())
    assert not any(name.startswith(plan.blocks) for name in plan.kept)


def test_a_target_below_what_is_left_without_blocks_is_refused(problem: PruningProblem) -> None:
    with pytest.raises(
        ValueError, match=r"cannot be reached by dropping blocks alone: without 2 .*keeps 0\."
    ):
        SYSTEMS["blocks"](job(problem, 0.05))


def test_a_network_without_blocks_is_refused(problem: PruningProblem) -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)).eval()
    network = trace(model, torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match="demo has no block that can go"):
        SYSTEMS["blocks"](replace(job(problem, 0.5), model=model, network=network))


def test_a_target_of_one_drops_nothing(problem: PruningProblem) -> None:
    result = SYSTEMS["blocks"](replace(job(problem, 1.0), config=replace(CONFIG, epochs=0)))
    assert result.plan is not None
    assert result.plan.blocks == ()


def test_a_job_that_is_run_again_drops_the_same_blocks(
    problem: PruningProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunFolder(tmp_path / "run", CONFIG) as folder:
        first = SYSTEMS["blocks"](job(problem, 0.7, folder))
        monkeypatch.setattr("secateur.agent.systems.blocks._down_to_target", lambda *_: pytest.fail("again"))
        second = SYSTEMS["blocks"](job(problem, 0.7, folder))
    assert first.plan == second.plan
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)
