"""Whole jobs whose candidates are measured by several processes: the results are those of one."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from secateur.agent.procedures.config import PruningConfig
from secateur.agent.procedures.devices import engine_of
from secateur.envs.evaluation.evaluator import CandidateEvaluator
from secateur.envs.evaluation.journal import CachedMeasurement, Journal
from secateur.envs.evaluation.local_pool import LocalPool
from secateur.envs.io.run_files import CHECKPOINTS, JOURNAL
from secateur.envs.recovery.checkpoint import Stopped
from secateur.envs.tasks import ClassificationTask
from support.small import plain_network

BRIEF: dict[str, Any] = {"target_macs": 0.5, "evaluations": 32, "search_images": 64, "epochs": 0}


def test_a_run_whose_workers_are_killed_has_the_result_of_one_process(
    digit_task: ClassificationTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = secateur.prune(plain_network(), digit_task, **BRIEF)
    killed: list[int] = []
    append = Journal.append

    def kill_after_ten(journal: Journal, *measured: Any) -> None:
        append(journal, *measured)
        if journal.measured == 10:
            (pool,) = pools
            killed.extend(place.process.pid for place in pool._places if place)
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    pools: list[LocalPool] = []
    enter = LocalPool.__enter__
    monkeypatch.setattr(LocalPool, "__enter__", lambda pool: pools.append(pool) or enter(pool))  # type: ignore[func-returns-value]
    monkeypatch.setattr(Journal, "append", kill_after_ten)
    shared = secateur.prune(plain_network(), digit_task, out=tmp_path / "run", search_workers=2, **BRIEF)
    assert len(killed) == 2
    assert shared.plan == alone.plan
    assert shared.report["search"]["rewards"] == alone.report["search"]["rewards"]
    assert not any(place for place in pools[0]._places)


def test_a_run_goes_on_with_other_workers_and_on_another_kind_says_so(
    digit_task: ClassificationTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    alone = secateur.prune(plain_network(), digit_task, **BRIEF)
    append, calls = Journal.append, []

    def stop_after_twenty(journal: Journal, *measured: Any) -> None:
        append(journal, *measured)
        calls.append(measured)
        if len(calls) == 20:
            raise Stopped

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", stop_after_twenty)
        with pytest.raises(KeyboardInterrupt):
            secateur.prune(plain_network(), digit_task, out=out, search_workers=2, **BRIEF)
    lines = (out / CHECKPOINTS / JOURNAL).read_text(encoding="utf-8").splitlines()
    assert sum("measured in" in line for line in lines) == 1
    capsys.readouterr()
    resumed = secateur.prune(plain_network(), digit_task, out=out, resume=True, **BRIEF)
    assert "were measured in" not in capsys.readouterr().err
    assert resumed.plan == alone.plan


def test_a_journal_of_another_kind_of_processor_is_not_looked_up_and_that_is_said(
    digit_task: ClassificationTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    network, model = secateur.trace(plain_network(), torch.zeros(2, *digit_task.input_shape)), plain_network()
    masks = [np.ones(layer.filters, np.bool_) for layer in network.layers]
    journal = Journal(tmp_path / "journal")
    wrong = CachedMeasurement(-1.0, -1.0)
    with monkeypatch.context() as patch:
        patch.setattr("secateur.envs.evaluation.bench.device_kind", lambda device: "bfloat16 on an abacus")
        other = CandidateEvaluator(model, network, digit_task, images=32, journal=journal)
        other([masks])
        journal._known = {key: wrong for key in journal._known}
    found = CandidateEvaluator(model, network, digit_task, images=32, journal=journal)([masks])[0]
    assert found.accuracy >= 0
    with engine_of(PruningConfig(), model, journal):
        pass
    said = capsys.readouterr().err
    assert "were measured in bfloat16 on an abacus; this process measures in " in said


def test_an_engine_is_a_name_or_an_address() -> None:
    with pytest.raises(ValueError, match=r"there is no engine 'rya'.*give local, ray"):
        PruningConfig(engine="rya")
    with pytest.raises(ValueError, match="search_workers"):
        PruningConfig(search_workers=0)
    assert PruningConfig(engine="ray://head:10001").engine == "ray://head:10001"


@pytest.mark.slow
def test_a_network_that_cannot_be_sent_to_workers_is_refused_in_one_line(
    digit_task: ClassificationTask,
) -> None:
    model: nn.Module = plain_network()
    model.names = (name for name in "ab")  # type: ignore[assignment]
    with pytest.raises(ValueError, match="cannot be sent to another process"):
        secateur.prune(model, digit_task, search_workers=2, **BRIEF)
