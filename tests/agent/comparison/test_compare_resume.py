"""A comparison that is interrupted, between its runs or inside one, ends as if nothing had happened."""

from __future__ import annotations

import errno
import os
import pkgutil
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from secateur.agent.cli import main
from support.command_line import refusal
from support.comparing import NETWORK, assert_same_networks, content_of
from support.processes import begin, finish

WORDS = ["compare", NETWORK, "--epochs", "6", "--dense-epochs", "1", "--batchnorm-images", "64"]
WORDS += ["--methods", "l2-uniform,dense-tuned,agent"]
LAST = "agent-0.5-seed0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compare without an interruption."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    assert finish([*WORDS, "--out", str(folder)], folder.parent / "errors") == 0
    return folder


def wait_for(condition: Callable[[], bool], process: BaseProcess) -> None:
    while not condition() and process.is_alive():
        time.sleep(0.01)
    assert process.is_alive()


@pytest.mark.parametrize(
    "file",
    [
        pytest.param("dense-tuned-1-seed0/checkpoints/training.checkpoint", marks=pytest.mark.slow),
        f"{LAST}/checkpoints/recovery.checkpoint",
    ],
)
def test_killed_inside_a_run_it_goes_on_there_to_the_same_result(
    file: str, whole: Path, tmp_path: Path
) -> None:
    out, errors = tmp_path / "out", tmp_path / "errors"
    process = begin([*WORDS, "--out", str(out)], errors)
    wait_for((out / file).is_file, process)
    process.kill()
    process.join()
    assert (out / "l2-uniform-0.5-seed0" / "measured.json").is_file()
    assert not (out / "compare.json").exists()
    assert finish(["resume", str(out)], errors) == 0, errors.read_text()
    assert_same_networks(whole, out)


def test_a_full_disk_ends_it_and_it_goes_on_when_there_is_space(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, temporary_file = tmp_path / "out", tempfile.TemporaryFile

    def full(**options: Any) -> Any:
        if (out / "l2-uniform-0.5-seed0" / "measured.json").is_file():
            raise OSError(errno.ENOSPC, "No space left on device")
        return temporary_file(**options)

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", full)
        assert "No space left on device" in refusal([*WORDS, "--out", str(out)], capsys)
    assert not (out / "compare.json").exists()
    assert main(["resume", str(out)]) == 0
    assert_same_networks(whole, out)


def test_finished_runs_are_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, errors = tmp_path / "out", tmp_path / "errors"
    process = begin([*WORDS, "--out", str(out)], errors)
    wait_for((out / "dense-tuned-1-seed0" / "measured.json").is_file, process)
    process.kill()
    process.join()
    made = []
    monkeypatch.setattr(
        "secateur.agent.comparison.member.run_system",
        lambda shared, system, entry, folder: made.append(entry.folder) or _stop(),
    )
    assert main(["resume", str(out)]) == 130
    assert made == [LAST]


def _stop() -> None:
    from secateur.envs.recovery.checkpoint import Stopped

    raise Stopped


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_runs_in_processes_stop_together_and_go_on(number: signal.Signals, tmp_path: Path) -> None:
    out, errors = tmp_path / "out", tmp_path / "errors"
    longer = [word if word != "6" else "60" for word in WORDS]
    process = begin([*longer, "--jobs", "2", "--out", str(out)], errors)
    wait_for(lambda: len(list(out.glob("*/config.yaml"))) == 2, process)
    time.sleep(1)
    os.kill(process.pid or 0, number)
    process.join()
    assert process.exitcode == 130
    said = errors.read_text().strip().splitlines()
    assert said[-1] == f"secateur: stopped; resume with: secateur resume {out}"
    assert "Traceback" not in errors.read_text()
    assert not (out / "compare.json").exists()  # how far each was depends on the machine
    assert finish(["resume", str(out)], errors) == 0, errors.read_text()
    assert finish([*longer, "--out", str(tmp_path / "alone")], errors) == 0
    assert_same_networks(tmp_path / "alone", out)


@pytest.mark.slow
def test_a_killed_comparison_takes_its_processes_along_and_goes_on(whole: Path, tmp_path: Path) -> None:
    out, errors = tmp_path / "out", tmp_path / "errors"
    process = begin([*WORDS, "--jobs", "3", "--out", str(out)], errors)
    wait_for(lambda: len(list(out.glob("*/config.yaml"))) >= 2, process)
    process.kill()
    process.join()
    assert finish(["resume", str(out)], errors) == 0, errors.read_text()
    assert_same_networks(whole, out)
    assert len(content_of(out)["members"]) == 3


@pytest.mark.parametrize("place", ["member.save_result", "all_members._timed_report"])
def test_a_signal_while_a_run_is_measured_or_timed_stops_the_others(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, words = tmp_path / "out", [*WORDS[:3], "1", *WORDS[4:]]
    path = f"secateur.agent.comparison.{place}"
    begun = []
    own = pkgutil.resolve_name(path)

    def interrupted(*arguments: Any) -> Any:
        begun.append(arguments)
        signal.raise_signal(signal.SIGINT)
        return own(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(path, interrupted)
        assert main([*words, "--out", str(out)]) == 130
    assert len(begun) == 1
    assert not (out / "compare.json").exists()
    assert main(["resume", str(out)]) == 0
    assert len(content_of(out)["members"]) == 3
