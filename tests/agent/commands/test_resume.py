"""What resuming promises: whatever happens to a process, its run ends as if nothing had."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import time
import zlib
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from secateur.agent.cli import main
from secateur.agent.commands import Prune, Resume
from secateur.agent.run.folder import RunFolder, load_latency_table
from secateur.agent.run.locks import is_locked
from secateur.envs.cost.latency_table import LatencyTable
from secateur.envs.evaluation.journal import CachedMeasurement, Journal
from secateur.envs.recovery.checkpoint import Checkpoint
from support.processes import begin, finish

SEARCH = ["--evaluations", "32", "--search-images", "64"]
SMALL = ["support.small:plain_network", *SEARCH, "--epochs", "2", "--dense-epochs", "2", "--seed", "1"]
LAYERWISE = ["--procedure", "layerwise", "--layer-epochs", "1", *SMALL]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run without an interruption."""
    folder = tmp_path_factory.mktemp("whole")
    assert finish(["prune", *SMALL, "--out", str(folder)], folder.parent / "whole.err") == 0
    return folder


def assert_same(one: Path, other: Path) -> None:
    for name in ("plan.json", "model.safetensors", "dense.safetensors", "agent.safetensors"):
        if (one / name).is_file():
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    figures = [json.loads((folder / "report.json").read_text()) for folder in (one, other)]
    for key in ("accuracy", "loss", "macs"):
        assert figures[0]["pruned"][key] == figures[1]["pruned"][key]
    assert figures[0]["recovery"]["losses"] == figures[1]["recovery"]["losses"]
    for entry in ("rewards", "evaluations"):
        assert figures[0]["search"][entry] == figures[1]["search"][entry]
    compared = [figure["search"].get("finalists", {}) for figure in figures]
    assert compared[0].get("rungs") == compared[1].get("rungs")
    assert not list(other.rglob("*.tmp"))
    assert not (other / "checkpoints").exists()


def wait_for(condition: Callable[[], bool], process: BaseProcess) -> None:
    while not condition() and process.is_alive():
        time.sleep(0.01)


def lines(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.is_file() else 0


def let_the_search_have_taken(seconds: float, run: Path) -> None:
    """Let the last candidate in the journal of a run have been found so much later."""
    path = run / "checkpoints" / "candidates.jsonl"
    *others, last = path.read_text().splitlines()
    key, accuracy, loss, earlier = json.loads(last.partition(" ")[2])
    text = json.dumps([key, accuracy, loss, earlier + seconds])
    path.write_text("\n".join([*others, f"{zlib.crc32(text.encode()):08x} {text}", ""]))


def let_the_training_have_taken(seconds: float, path: Path) -> None:
    checkpoint = Checkpoint(path)
    state = checkpoint.load()
    assert state is not None
    checkpoint.save(state | {"seconds": state["seconds"] + seconds})


@pytest.mark.slow
def test_a_run_killed_at_twenty_moments_ends_as_if_nothing_had_happened(whole: Path, tmp_path: Path) -> None:
    drawn = random.Random(0)
    out, errors = tmp_path / "run", tmp_path / "errors"
    words = ["prune", *SMALL, "--out", str(out)]
    kills = 0
    while kills < 20:
        process = begin(words, errors)
        process.join(drawn.uniform(0.2, 3.0))
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
        elif kills < 20:  # it ended well: begin another one, there are moments left to try
            assert process.exitcode == 0, errors.read_text()
            assert_same(whole, out)
            shutil.rmtree(out)
        began = (out / "config.yaml").is_file()
        words = ["resume", str(out)] if began else ["prune", *SMALL, "--out", str(out)]
        if not began:
            shutil.rmtree(out, ignore_errors=True)
    assert finish(words, errors) == 0, errors.read_text()
    assert_same(whole, out)


@pytest.mark.parametrize("place", ["candidates.jsonl", "recovery.checkpoint"])
def test_a_run_killed_in_search_or_recovery_ends_as_if_nothing_had_happened(
    place: str, whole: Path, tmp_path: Path
) -> None:
    out, errors = tmp_path / "run", tmp_path / "errors"
    process = begin(["prune", *SMALL, "--out", str(out)], errors)
    wait_for(lambda: lines(out / "checkpoints" / place) >= 5, process)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    let_the_search_have_taken(500, out)
    if place == "recovery.checkpoint":
        let_the_training_have_taken(1000, out / "checkpoints" / place)
    (out / ".plan.json.1.tmp").write_text("half of a")  # as a process that is killed while it writes leaves
    assert not (out / "report.json").exists()
    assert finish(["resume", str(out)], errors) == 0, errors.read_text()
    assert_same(whole, out)
    report = json.loads((out / "report.json").read_text())
    assert 500 < report["search"]["seconds"] < 800
    assert (1000 < report["recovery"]["seconds"] < 1300) == (place == "recovery.checkpoint")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_who_stops_a_run_is_told_how_to_go_on(number: signal.Signals, whole: Path, tmp_path: Path) -> None:
    out, errors = tmp_path / "run", tmp_path / "errors"
    process = begin(["prune", *SMALL, "--out", str(out)], errors)
    wait_for(lambda: lines(out / "checkpoints" / "candidates.jsonl") >= 5, process)
    os.kill(process.pid or 0, number)
    process.join()
    assert process.exitcode == 130
    assert (
        errors.read_text().strip().splitlines()[-1]
        == f"secateur: stopped; resume with: secateur resume {out}"
    )
    assert finish(["resume", str(out)], errors) == 0, errors.read_text()
    assert_same(whole, out)


@pytest.mark.parametrize("rung", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_killed_in_a_rung_ends_as_if_nothing_had_happened(rung: int, tmp_path: Path) -> None:
    longer = ["prune", SMALL[0], *SEARCH, "--epochs", "8", "--dense-epochs", "2", "--seed", "1"]
    out, errors = tmp_path / "run", tmp_path / "errors"
    assert finish([*longer, "--out", str(tmp_path / "whole")], errors) == 0, errors.read_text()
    process = begin([*longer, "--out", str(out)], errors)
    wait_for(lambda: bool(list((out / "checkpoints").glob(f"rung {rung}, *.checkpoint"))), process)
    process.kill()
    process.join()
    assert (out / "checkpoints" / "finalists.checkpoint").is_file()
    assert not (out / "checkpoints" / "recovery.checkpoint").exists()
    assert finish(["resume", str(out)], errors) == 0, errors.read_text()
    assert_same(tmp_path / "whole", out)


def test_layer_after_layer_is_resumed_too(tmp_path: Path) -> None:
    out, errors = tmp_path / "run", tmp_path / "errors"
    assert finish(["prune", *LAYERWISE, "--out", str(tmp_path / "whole")], errors) == 0, errors.read_text()
    process = begin(["prune", *LAYERWISE, "--out", str(out)], errors)
    wait_for(lambda: (out / "checkpoints" / "layer-001.checkpoint").is_file(), process)
    process.kill()
    process.join()
    let_the_search_have_taken(500, out)
    let_the_training_have_taken(1000, out / "checkpoints" / "layer-001.checkpoint")
    assert finish(["resume", str(out)], errors) == 0, errors.read_text()
    assert_same(tmp_path / "whole", out)
    search = json.loads((out / "report.json").read_text())["search"]
    assert 500 < search["seconds"] < 800
    assert 1000 < search["finetuning_seconds"] < 1300


def test_the_training_of_an_agent_is_resumed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, errors = tmp_path / "run", tmp_path / "errors"
    words = ["train", "support.small:plain_network", *SEARCH, "--dense-epochs", "1", "--out"]
    assert finish([*words, str(tmp_path / "whole")], errors) == 0, errors.read_text()
    process = begin([*words, str(out)], errors)
    wait_for(lambda: lines(out / "checkpoints" / "candidates.jsonl") >= 20, process)
    process.kill()
    process.join()
    let_the_search_have_taken(500, out)
    assert main(["resume", str(out)]) == 0
    seconds = re.search(r"trained on 32 candidates in (\d+) s", " ".join(capsys.readouterr().out.split()))
    assert seconds
    assert 500 <= int(seconds[1]) < 800
    one, other = (folder / "agent.safetensors" for folder in (tmp_path / "whole", out))
    assert one.read_bytes() == other.read_bytes()


def test_tensorboard_shows_a_resumed_run_once(whole: Path, tmp_path: Path) -> None:
    out, errors = tmp_path / "run", tmp_path / "errors"
    process = begin(["prune", *SMALL, "--out", str(out)], errors)
    wait_for(lambda: lines(out / "checkpoints" / "candidates.jsonl") >= 20, process)
    process.kill()
    process.join()
    assert finish(["resume", str(out)], errors) == 0, errors.read_text()
    found = [EventAccumulator(str(folder)).Reload() for folder in (whole, out)]
    for tag in ("search/reward", "recovery/loss", "dense/loss"):
        one, other = ([(event.step, event.value) for event in each.Scalars(tag)] for each in found)
        assert one == other


def test_a_full_disk_ends_with_one_line_and_what_there_was(whole: Path, tmp_path: Path) -> None:
    out, errors = tmp_path / "run", tmp_path / "errors"
    dense = (whole / "dense.safetensors").stat().st_size
    assert finish(["prune", *SMALL, "--out", str(out)], errors, file_size=dense // 2) == 2
    last = [line for line in errors.read_text().splitlines() if line.startswith("secateur:")]
    assert len(last) == 1
    assert "File too large" in last[0]
    assert not list(out.rglob("*.tmp"))
    assert finish(["resume", str(out)], errors) == 0, errors.read_text()
    assert_same(whole, out)


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder(tmp_path / "run", Prune()):
        assert main(["resume", str(tmp_path / "run")]) == 2
    assert "another process is working in" in capsys.readouterr().err


def test_a_run_whose_log_cannot_be_closed_lets_go_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError("disk full")

    folder = RunFolder(tmp_path / "run", Prune())
    monkeypatch.setattr(folder.logger, "close", full)
    with pytest.raises(OSError, match="disk full"), folder:
        pass
    assert not is_locked(tmp_path / "run")


def test_a_finished_run_is_left_as_it_is(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.iterdir()}
    assert main(["resume", str(whole)]) == 0
    assert "is finished already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in whole.iterdir()} == before


def test_a_run_that_was_killed_after_its_last_result_loses_its_checkpoints(tmp_path: Path) -> None:
    with RunFolder(tmp_path, Prune()) as folder:
        (tmp_path / "report.json").write_text("{}")
        (tmp_path / "report.html").touch()
    folder.checkpoint("recovery").save({"step": 1})
    assert main(["resume", str(tmp_path)]) == 0
    assert not (tmp_path / "checkpoints").exists()
    assert {"config.yaml", "report.json", "report.html"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not the folder of a run: it has no config.yaml"),
        ("- a\n- b\n", "has no options"),
        ("[" * 10_000, "is not YAML that can be read"),
        ("verb: evaluate\n", "does not name a verb that can be resumed"),
        ("verb: python\n", "call secateur.prune again with the same options and resume=True"),
        ("verb: prune\nmodle: demo\n", "does not describe a run of this version"),
        ("verb: prune\ndata: 3\n", "does not describe a run of this version"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(
    content: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    assert main(["resume", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_comparison_is_resumed_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text("verb: compare\nmodel: demo\n")
    monkeypatch.setattr("secateur.agent.commands.process.is_launched", lambda: True)
    with pytest.raises(ValueError, match="compare runs in one process; start it without torchrun"):
        Resume(tmp_path).run()


def test_the_configuration_says_everything_that_was_asked_for(whole: Path) -> None:
    config = yaml.safe_load((whole / "config.yaml").read_text())
    assert config["verb"] == "prune"
    assert config["evaluations"] == 32


def test_a_journal_forgets_only_what_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    candidates = [[np.arange(9) < kept, np.arange(7) < 3] for kept in range(1, 6)]
    journal = Journal(path)
    for number, masks in enumerate(candidates):
        journal.append("search", masks, CachedMeasurement(number / 3, -number / 7))
    with path.open("ab") as file:
        file.write(b"0badc0de [")
    again = Journal(path)
    assert [again.recall("search", masks) for masks in candidates] == [
        CachedMeasurement(number / 3, -number / 7) for number in range(5)
    ]
    assert again.recall("choice", candidates[0]) is None
    content = path.read_bytes()
    path.write_bytes(content[:-20] + b"9" + content[-19:])
    damaged = Journal(path)
    assert damaged.recall("search", candidates[3]) is not None
    assert damaged.recall("search", candidates[4]) is None
    damaged.append("search", candidates[4], CachedMeasurement(1.0, 2.0))
    assert Journal(path).recall("search", candidates[4]) == CachedMeasurement(1.0, 2.0)


def test_measured_latencies_are_kept(tmp_path: Path) -> None:
    table = LatencyTable(
        fixed=np.array([[1, 2]]), slope=np.ones((1, 2, 3), np.int64), vector=16,
        knots=np.arange(8).reshape(1, 2, 2, 2), values=np.random.default_rng(0).random((1, 4, 4)),
        activations=np.array([[0.1, 0.2]]), coefficients=(0.1, 1.2, 0.3),
    )  # fmt: skip
    with RunFolder(tmp_path / "run", Prune()) as folder:
        folder.save_latency_table(table)
        known = load_latency_table(tmp_path / "run")
    assert known is not None
    kept = np.array([2, 3, 4])
    assert known(kept) == table(kept)
    assert load_latency_table(tmp_path) is None
