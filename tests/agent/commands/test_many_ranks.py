"""What a run on several ranks promises: one voice, one folder, and the result of one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from safetensors.torch import load_file

from support.ranks import begin_ranks, finish_ranks, join_ranks

# No batch-norm, as each rank would normalise its share by itself.
SMALL = [
    "support.rank_work:network", "--evaluations", "16", "--search-images", "64", "--epochs", "2",
    "--dense-epochs", "2", "--seed", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run on two ranks without an interruption."""
    folder = tmp_path_factory.mktemp("whole")
    codes, (first, second) = finish_ranks(["prune", *SMALL, "--out", str(folder)], folder.parent / "whole")
    assert codes == [0, 0], first
    assert "fine-tuning" in first
    assert second == ""
    return folder


def result(folder: Path) -> dict[str, object]:
    report = json.loads((folder / "report.json").read_text())
    return {
        "kept": report["layers"],
        "losses": report["recovery"]["losses"],
        "rewards": report["search"]["rewards"],
        "accuracy": report["pruned"]["accuracy"],
    }


def distance(one: Path, other: Path) -> float:
    """Return the largest difference of the pruned networks' weights."""
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def steps_saved(folder: Path) -> bool:
    return (folder / "checkpoints" / "recovery.checkpoint").is_file()


def wait_for_recovery(folder: Path, process: BaseProcess) -> None:
    while not steps_saved(folder) and process.is_alive():
        time.sleep(0.01)


def test_two_ranks_prune_as_one_process_does(whole: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    codes, said = finish_ranks(["prune", *SMALL, "--out", str(alone)], tmp_path / "errors", number=1)
    assert codes == [0], said
    assert result(alone) == result(whole)
    assert distance(alone, whole) < 1e-5
    notes = json.loads((whole / "report.json").read_text())["splits"]["notes"]
    assert "2 processes trained on shares of each batch." in notes


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_all_and_one_says_how_to_go_on(whole: Path, tmp_path: Path) -> None:
    out, errors = tmp_path / "run", tmp_path / "errors"
    processes = begin_ranks(["prune", *SMALL, "--out", str(out)], errors)
    wait_for_recovery(out, processes[1])
    os.kill(processes[1].pid or 0, signal.SIGTERM)
    codes, said = join_ranks(processes, errors)
    assert codes == [130, 130]
    assert sum(f"stopped; resume with: secateur resume {out}" in each for each in said) == 1
    codes, said = finish_ranks(["resume", str(out)], errors)
    assert codes == [0, 0], said
    assert result(out) == result(whole)
    assert distance(out, whole) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_a_run_one_of_whose_ranks_is_killed_goes_on_with_one_or_two(
    number: int, whole: Path, tmp_path: Path
) -> None:
    out, errors = tmp_path / "run", tmp_path / "errors"
    processes = begin_ranks(["prune", *SMALL, "--out", str(out)], errors)
    wait_for_recovery(out, processes[1])
    processes[1].kill()
    killed = time.monotonic()
    codes, said = join_ranks(processes, errors)
    assert codes == [2, -signal.SIGKILL]
    assert time.monotonic() - killed < 10
    assert "another process of the run ended without a word" in said[0]
    assert not (out / "report.json").exists()
    codes, said = finish_ranks(["resume", str(out)], errors, number)
    assert set(codes) == {0}, said
    assert result(out)["kept"] == result(whole)["kept"]
    assert distance(out, whole) < 1e-5
    if number == 2:
        assert distance(out, whole) == 0


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["prune", "nosuch"], "there is no model 'nosuch'"),
        (["prune", "--nosuch"], "nosuch"),
        (["runs"], "runs runs in one process; start it without torchrun"),
    ],
)
def test_bad_input_to_all_ranks_is_one_line_of_one_of_them(
    words: list[str], part: str, tmp_path: Path
) -> None:
    codes, said = finish_ranks(words, tmp_path / "errors")
    assert codes == [2, 2]
    lines = [line for each in said for line in each.splitlines() if line.startswith("secateur:")]
    assert len(lines) == 1
    assert part in lines[0]
    assert "Traceback" not in "".join(said)


@pytest.mark.parametrize("bad", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_an_error_of_one_rank_ends_all_with_its_line(bad: int, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["prune", *SMALL, "--task", f"support.rank_work:Failing{bad}", "--out", str(out)]
    codes, said = finish_ranks(words, tmp_path / "e")
    assert codes == [2, 2]
    assert f"failed (ValueError: the loss fails on rank {bad})" in said[bad]
    assert "secateur:" not in said[1 - bad]
    assert "Traceback" not in "".join(said)


def test_a_folder_in_use_is_refused_on_every_rank(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").touch()
    codes, said = finish_ranks(["prune", *SMALL, "--out", str(tmp_path / "run")], tmp_path / "errors")
    assert codes == [2, 2]
    assert sum("exists and is not empty" in each for each in said) == 1


@pytest.mark.slow
def test_torchrun_ends_a_job_one_of_whose_processes_is_killed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["-m", "secateur", "prune", "demo", "--out", str(out), "--evaluations", "16", "--epochs", "200"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    job = subprocess.Popen([*launcher, *words], stderr=subprocess.PIPE, text=True)
    while not (out / "dense.safetensors").is_file():
        assert job.poll() is None
        time.sleep(0.1)
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    killed = time.monotonic()
    said = job.communicate()[1]
    assert job.returncode != 0
    assert time.monotonic() - killed < 40
    assert said.count("secateur: another process of the run ended without a word") == 1
    assert not (out / "report.json").exists()
    assert (out / "dense.safetensors").is_file()
