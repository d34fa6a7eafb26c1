"""An error in the user's code in the middle of a run: one line that says where, and how to go on."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path

import pytest
import torch

from secateur.agent.cli import main
from secateur.envs.io.user_code import portable, users_line
from secateur.envs.models import get_model
from support.command_line import refusal

MODULE = """
import os
import torch
import torch.nn.functional as F
from torch import nn
from secateur import TensorTask

calls = 0

def score(outputs, labels):
    global calls
    calls += 1
    if calls > int(os.environ["METRIC_CALLS"]):
        exec(os.environ["FAILURE"])
    return 100.0 * (outputs.argmax(1) == labels).float()

def task():
    part = lambda count: (torch.rand(count, 3, 8, 8), torch.arange(count) % 2)
    torch.manual_seed(0)
    return TensorTask(train=part(40), val=part(20), test=part(20), loss=F.cross_entropy, metric=score)

def build():
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
"""

WORDS = ["prune", "ownmodule:build", "--task", "ownmodule:task", "--dense-epochs", "0", "--effort", "quick"]


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ownmodule.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ownmodule", raising=False)


FAILURES = {
    "{}['a label']": "KeyError: 'a label'",
    "raise ValueError('no such label')": "ValueError: no such label",
    "float([])": "TypeError: ",
    "open('/no/such/file')": "FileNotFoundError: ",
    "next(iter(()))": "StopIteration",
    "raise SystemExit(3)": "SystemExit: 3",
    "assert False": "AssertionError",
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("calls", [0, 30], ids=["at the first check", "in the run"])
@pytest.mark.usefixtures("own_module")
def test_a_metric_that_fails_is_named_with_its_line(
    failure: str,
    calls: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("METRIC_CALLS", str(calls))
    monkeypatch.setenv("FAILURE", failure)
    said = refusal([*WORDS, "--epochs", "2", "--batch-size", "8", "--out", str(tmp_path / "run")], capsys)
    assert FAILURES[failure] in said
    assert "ownmodule.py, line 14" in said
    assert ("go on with: secateur resume" in said) == bool(calls)


@pytest.mark.usefixtures("own_module")
def test_a_metric_that_ends_a_worker_is_named_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METRIC_CALLS", "12")
    monkeypatch.setenv("FAILURE", "raise SystemExit(0)")
    words = [*WORDS, "--epochs", "0", "--search-workers", "2", "--out", str(tmp_path / "run")]
    assert "score in ownmodule.py, line 14, failed (SystemExit: 0)" in refusal(words, capsys)


def test_an_error_keeps_its_place_on_the_way_to_another_process() -> None:
    with pytest.raises(KeyError) as caught:
        {}["a label"]
    there = pickle.loads(pickle.dumps(portable(caught.value)))
    assert there.__traceback__ is None
    assert users_line(there) == users_line(caught.value)
    assert "test_user_errors.py, line " in str(users_line(there))


def test_an_error_that_cannot_be_pickled_goes_as_its_text() -> None:
    with pytest.raises(ValueError, match="no label") as caught:
        raise ValueError("no label", lambda: None)
    there = pickle.loads(pickle.dumps(portable(caught.value)))
    assert "ValueError: ('no label'" in str(there)
    assert "test_user_errors.py, line " in str(users_line(there))


@pytest.mark.parametrize("calls", range(12, 20))
@pytest.mark.usefixtures("own_module")
def test_stop_iteration_in_a_metric_never_leaves_images_out(
    calls: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("METRIC_CALLS", str(calls))
    monkeypatch.setenv("FAILURE", "if calls == int(os.environ['METRIC_CALLS']) + 1: next(iter(()))")
    said = refusal([*WORDS, "--epochs", "0", "--out", str(tmp_path / "run")], capsys)
    assert "failed (StopIteration)" in said


@pytest.mark.usefixtures("own_module")
def test_a_metric_that_fails_in_a_run_is_named_and_the_run_goes_on_after_its_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    monkeypatch.setenv("METRIC_CALLS", "30")
    monkeypatch.setenv("FAILURE", "{}['a label']")
    said = refusal([*WORDS, "--epochs", "2", "--batch-size", "8", "--out", str(out)], capsys)
    assert "score in ownmodule.py, line 14, failed (KeyError: 'a label'); --debug shows where" in said
    assert f"once that is mended, go on with: secateur resume {out}" in said
    monkeypatch.setenv("METRIC_CALLS", "1000000")
    assert main(["resume", str(out)]) == 0
    assert (out / "report.json").is_file()


@pytest.mark.usefixtures("own_module")
def test_what_a_library_says_to_the_users_code_is_told_of_the_users_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("METRIC_CALLS", "1")
    with pytest.raises(RuntimeError, match="size") as caught:
        importlib.import_module("ownmodule").score(torch.zeros(2, 2), torch.zeros(3))
    assert str(users_line(caught.value)).startswith("score in ownmodule.py, line 15, failed (RuntimeError: ")


def test_memory_that_runs_out_is_not_called_an_error_of_the_users() -> None:
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.")
    assert users_line(caught.value) is None


def test_an_error_of_this_program_is_none_of_the_users() -> None:
    with pytest.raises(ValueError, match="nothing") as caught:
        get_model("nothing", num_classes=2, in_channels=1)
    assert users_line(caught.value) is None
