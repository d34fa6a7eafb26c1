"""Blocks are chosen beside filters, and the rest of a run prunes the network without them."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import secateur
from secateur.agent import PruningConfig, prune
from secateur.agent.procedures.block_order import BlockOrder
from secateur.agent.procedures.block_sizes import Proposed, Sized, best_filters
from secateur.agent.procedures.blocks import drop_chosen_blocks
from secateur.agent.procedures.preparation import prepare
from secateur.agent.reporting.html import page
from secateur.agent.run.folder import RunFolder
from secateur.envs.modules.calls import as_calls
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.branch_means import BranchMeans
from secateur.envs.recovery.checkpoint import Stopped
from secateur.envs.surgery.blocks import drop_blocks, find_blocks
from secateur.envs.surgery.unreachable import TargetUnreachableError
from secateur.envs.tasks import Task, measure
from support.small import pretended_latency

BRIEF = PruningConfig(
    target_macs=0.5, effort="quick", epochs=1, search_images=64, compensation_images=64, drop_blocks="auto"
)


@pytest.fixture
def useless(problem: PruningProblem) -> nn.Module:
    """Give the demo CNN with a block that adds nothing."""
    model = secateur.envs.modules.copying.replica(problem.model)
    block = find_blocks(model, as_calls(torch.zeros(2, 1, 8, 8))[0])[0]
    with torch.no_grad():
        for parameter in model.get_submodule(block.last).parameters():
            parameter.zero_()
    return model


def order(task: Task, protect: tuple[str, ...] = ()) -> BlockOrder:
    calls = as_calls(torch.zeros(2, *task.input_shape))
    return BlockOrder(task, calls, BranchMeans(task, images=64), images=128, protect=protect)


def test_the_block_that_does_nothing_goes_first(useless: nn.Module, problem: PruningProblem) -> None:
    none, one, two = order(problem.task)(useless)
    assert [none.blocks, one.blocks, two.blocks] == [(), ("block1",), ("block1", "block2")]
    assert none.loss == pytest.approx(one.loss)
    for dropped in (none, one, two):
        assert dropped.loss == pytest.approx(measure(dropped.model, problem.task, "val", limit=128).loss)


def test_protected_layers_keep_their_blocks(problem: PruningProblem) -> None:
    *_, last = order(problem.task, ("block1.*",))(problem.model)
    assert last.blocks == ("block2",)


@pytest.mark.slow
def test_blocks_that_do_nothing_go_where_the_choice_is_free(
    useless: nn.Module, problem: PruningProblem
) -> None:
    result = prune(useless, problem.task, BRIEF)
    assert result.plan.blocks == ("block1",)
    report = result.report
    assert report["ratios"]["macs"] <= 0.5
    assert report["blocks"]["total"] == 2
    assert report["blocks"]["dropped"] == ["block1"]
    assert [row["blocks"] for row in report["blocks"]["tried"]] == [0, 1, 2]
    assert not any(layer["name"].startswith("block1") for layer in report["layers"])
    assert sum(p.numel() for p in result.model.parameters()) == report["pruned"]["params"]
    assert sum(p.numel() for p in useless.parameters()) == report["dense"]["params"]


@pytest.mark.slow
def test_a_number_of_blocks_goes(problem: PruningProblem, tmp_path: Path) -> None:
    result = secateur.prune(
        problem.model,
        problem.task,
        target_macs=0.4,
        effort="quick",
        epochs=0,
        drop_blocks=1,
        out=tmp_path / "run",
    )
    assert len(result.plan.blocks) == 1
    assert result.report["ratios"]["macs"] <= 0.4
    assert ("residual blocks", "2", "1") in [
        (row.label, row.dense, row.pruned)
        for row in secateur.agent.reporting.formatting.comparison(result.report)
    ]
    assert f"before any filter: {result.plan.blocks[0]}" in page(result.report, tmp_path)
    again = secateur.load(problem.model, tmp_path / "run")
    images, _ = problem.task.batch("test", torch.arange(8))
    with torch.no_grad():
        assert torch.equal(again(images), result.model(images))


@pytest.mark.slow
def test_a_search_names_blocks_and_cut_drops_them(problem: PruningProblem) -> None:
    plan = secateur.search(problem.model, problem.task, target_macs=0.4, effort="quick", drop_blocks=1)
    images, _ = problem.task.batch("test", torch.arange(8))
    smaller = secateur.cut(problem.model, plan, task=problem.task).eval()
    assert len(plan.blocks) == 1
    assert measure(smaller, problem.task, "val").accuracy > 20
    without_data = secateur.cut(problem.model, plan).eval()
    with torch.no_grad():
        assert without_data(images).shape == smaller(images).shape
    again = secateur.cut(problem.model, secateur.PruningPlan.from_json(plan.to_json()), task=problem.task)
    with torch.no_grad():
        assert torch.equal(again.eval()(images), smaller(images))


@pytest.mark.slow
@pytest.mark.usefixtures("without_clock")
@pytest.mark.parametrize(("share", "cuts"), [(1.02, False), (0.8, True)])
def test_filters_go_where_blocks_do_not_meet_a_latency(
    problem: PruningProblem, share: float, cuts: bool
) -> None:
    calls = as_calls(torch.zeros(2, 1, 8, 8))
    without = drop_blocks(problem.model, ["block2"], calls)
    target = share * pretended_latency(without, torch.zeros(2, 1, 8, 8))
    config = replace(BRIEF, target_macs=None, target_latency=target, drop_blocks=1, protect=("block1.*",))
    report = prune(problem.model, problem.task, config).report
    assert report["blocks"]["dropped"] == ["block2"]
    assert any(layer["kept"] < layer["filters"] for layer in report["layers"]) == cuts
    assert report["pruned"]["latency_ms"] <= 1.1 * target


@pytest.mark.slow
@pytest.mark.parametrize("checks", [1, 12])
def test_an_interrupted_run_goes_on_to_the_same_result(
    checks: int, problem: PruningProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"target_macs": 0.4, "effort": "quick", "epochs": 2, "search_images": 64, "drop_blocks": "auto"}
    whole = secateur.prune(problem.model, problem.task, out=tmp_path / "whole", **options)
    out, calls = tmp_path / "stopped", []

    def stop(self: Any) -> None:
        calls.append(1)
        if len(calls) == checks:
            raise Stopped(self._advice)

    with monkeypatch.context() as patch:
        patch.setattr("secateur.agent.run.graceful_stop.GracefulStop.check", stop)
        with pytest.raises(KeyboardInterrupt):
            secateur.prune(problem.model, problem.task, out=out, **options)
    result = secateur.prune(problem.model, problem.task, out=out, resume=True, **options)
    assert result.plan == whole.plan
    assert result.report["blocks"] == whole.report["blocks"]
    for one, two in zip(result.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_resumed_run_drops_the_same_blocks(
    problem: PruningProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen() -> tuple[str, ...]:
        prepared = prepare(problem.model, problem.task, BRIEF, trains=False)
        with RunFolder(tmp_path / "run", BRIEF, resumed=(tmp_path / "run").exists()) as folder:
            found = drop_chosen_blocks(
                problem.model, problem.task, prepared, BRIEF, name="demo", folder=folder
            )
            monkeypatch.setattr("secateur.agent.run.folder.shutil.rmtree", lambda *_, **__: None)
        return found.blocks

    monkeypatch.setattr("secateur.agent.procedures.blocks._choose", lambda *_: {
        "total": 2, "blocks": ["block2"], "latency": None, "tried": []})  # fmt: skip
    assert chosen() == ("block2",)
    monkeypatch.setattr("secateur.agent.procedures.blocks._choose", lambda *_: pytest.fail("chosen again"))
    assert chosen() == ("block2",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_blocks": "some"}, "drop_blocks is 'some'; give a whole number, or auto"),
        ({"drop_blocks": -1}, "drop_blocks is -1"),
        ({"drop_blocks": 1, "drop_bound": 2}, "a drop bound tries many"),
        ({"drop_blocks": "auto", "procedure": "layerwise"}, "leave out drop_blocks"),
    ],
)
def test_options_that_do_not_go_with_blocks_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PruningConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "goes_on"), [(TargetUnreachableError("too large"), True), (ValueError("no agent there"), False)]
)
def test_only_a_target_out_of_reach_asks_for_more_blocks(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch, error: ValueError, goes_on: bool
) -> None:
    def refused_with_all_blocks(sized: Sized, task: Task, name: str) -> Proposed:
        if not sized.dropped.blocks:
            raise error
        return best_filters(sized, task, name)

    monkeypatch.setattr("secateur.agent.procedures.blocks.best_filters", refused_with_all_blocks)
    config = replace(BRIEF, drop_blocks="auto", method="l2-uniform")
    prepared = prepare(problem.model, problem.task, config, trains=False)
    with nullcontext() if goes_on else pytest.raises(ValueError, match=r"^no agent there$"):
        found = drop_chosen_blocks(problem.model, problem.task, prepared, config, name="demo")
        assert found.blocks


def test_more_blocks_than_there_are_is_refused(problem: PruningProblem) -> None:
    with pytest.raises(ValueError, match="has 2 blocks that can go, not 3; give --drop-blocks 2 at most"):
        prune(problem.model, problem.task, replace(BRIEF, drop_blocks=3))


@pytest.mark.slow
def test_a_network_without_blocks_is_pruned_where_the_choice_is_free(
    problem: PruningProblem, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)).eval()
    result = prune(model, problem.task, replace(BRIEF, epochs=0))
    assert result.plan.blocks == ()
    assert result.report["blocks"]["total"] == 0
    assert "residual blocks" not in page(result.report, tmp_path)


def test_no_blocks_is_the_run_without_the_option(problem: PruningProblem) -> None:
    with_none, without = (
        prune(problem.model, problem.task, replace(BRIEF, drop_blocks=number)) for number in (0, None)
    )
    assert with_none.plan == without.plan
    assert "blocks" not in with_none.report
