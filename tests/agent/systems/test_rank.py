"""The systems of low rank: they meet the size, are rebuilt from their plan, and resume bit for bit."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from secateur.agent.run.folder import RunFolder
from secateur.agent.systems.base import Result
from secateur.agent.systems.registry import SYSTEMS
from secateur.envs.models import get_model
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.checkpoint import Stopped
from secateur.envs.surgery.cutting import load_pruned, save_pruned
from support.promises import difference, outputs
from support.system_jobs import CONFIG, job_of, macs_of


@pytest.mark.parametrize("name", ["rank", "filters-rank"])
def test_a_system_of_low_rank_meets_the_size_and_is_rebuilt_from_its_plan(
    problem: PruningProblem, name: str, tmp_path: Path
) -> None:
    before = {key: value.clone() for key, value in problem.model.state_dict().items()}
    found = SYSTEMS[name](job_of(problem))
    assert SYSTEMS[name].kind == "rank"
    assert 0.97 < macs_of(found.model) / macs_of(problem.model) / 0.5 <= 1.0
    assert found.plan is not None
    assert found.plan.ranks
    is_cut = any(len(kept) < found.plan.filters[layer] for layer, kept in found.plan.kept.items())
    assert is_cut is (name == "filters-rank")
    save_pruned(found.model, found.plan, tmp_path)
    again = load_pruned(partial(get_model, "demo", num_classes=10, in_channels=1), tmp_path)
    x = torch.rand(3, 1, 8, 8)
    assert difference(outputs(found.model, (x,)), outputs(again, (x,))) == 0.0
    assert all(torch.equal(before[key], value) for key, value in problem.model.state_dict().items())
    assert found.epochs == 1
    assert found.notes == (
        f"{len(found.plan.ranks)} layers became two of low rank. These had to stay whole: it has groups (1).",
    )


@pytest.mark.parametrize("name", ["rank", "small-dense-taught"])
def test_a_stopped_system_goes_on_bit_for_bit(
    problem: PruningProblem, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SYSTEMS[name](job_of(problem))
    steps = iter(range(100))

    def stop() -> None:
        if next(steps) == 3:
            raise Stopped("enough")

    def begin() -> None:
        with RunFolder(tmp_path / "run", CONFIG) as folder:
            monkeypatch.setattr(folder, "check", stop)
            SYSTEMS[name](job_of(problem, folder=folder))

    with pytest.raises(Stopped):
        begin()
    with RunFolder(tmp_path / "run", CONFIG, resumed=True) as folder:
        resumed: Result = SYSTEMS[name](job_of(problem, folder=folder))
    pairs = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_size_that_low_rank_cannot_reach_is_refused(problem: PruningProblem) -> None:
    with pytest.raises(
        ValueError, match=r"the target 0.01 of the MACs cannot be reached by low rank: .*ask for"
    ):
        SYSTEMS["rank"](job_of(problem, 0.01))
