"""What the list of runs promises: every run in its state, whatever its files hold."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from secateur.agent.cli import main
from secateur.agent.commands.run_listing import Run, find_runs
from secateur.agent.run.locks import lock_folder

CONFIG: dict[str, Any] = {
    "model": "demo", "data": {"data": "digits"}, "method": "ppo", "target_macs": None,
    "target_latency": None, "drop_bound": None,
}  # fmt: skip
REPORT: dict[str, Any] = {
    "model": "demo", "data": "digits", "method": "ppo (frozen)", "ratios": {"macs": 0.4978},
    "dense": {"accuracy": 97.8}, "pruned": {"accuracy": 97.2},
}  # fmt: skip


def make_run(folder: Path, config: Any = CONFIG, report: Any = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if report is not None:
        (folder / "report.json").write_text(json.dumps(report))
    return folder


def only(folder: Path) -> Run:
    (run,) = find_runs(folder)
    return run


def test_a_finished_run_shows_what_came_of_it(tmp_path: Path) -> None:
    run = only(make_run(tmp_path / "a", report=REPORT))
    assert run.state == "finished"
    assert (run.model, run.data, run.method) == ("demo", "digits", "ppo (frozen)")
    assert run.target == "50 % of the MACs"
    assert (run.macs_ratio, run.accuracy_dense, run.accuracy_pruned) == (0.4978, 97.8, 97.2)


@pytest.mark.parametrize(("kind", "said"), [("weights", "30 % of the weights"), ("rank", "30 % of the MACs")])
def test_the_target_of_a_system_is_of_what_it_removes(kind: str, said: str, tmp_path: Path) -> None:
    system = {"kind": kind, "target": 0.3}
    run = only(make_run(tmp_path / "a", CONFIG | {"target_macs": 0.3}, REPORT | {"system": system}))
    assert run.target == said


def test_a_run_without_a_report_is_unfinished_and_one_that_holds_its_lock_runs(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a")
    assert only(folder).state == "unfinished"
    lock = lock_folder(folder)
    assert only(folder).state == "running"
    lock.release()
    assert only(folder).state == "unfinished"


def test_training_an_agent_is_finished_with_the_agent(tmp_path: Path) -> None:
    config = {"models": ["resnet20", "resnet32"], "data": {"data": "cifar10"}}
    folder = make_run(tmp_path / "a", config)
    run = only(folder)
    assert (run.state, run.model, run.method, run.target) == (
        "unfinished", "resnet20, resnet32", "train", "any size",
    )  # fmt: skip
    (folder / "agent.json").touch()
    assert only(folder).state == "finished"


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"target_macs": 0.3}, "30 % of the MACs"),
        ({"target_macs": 0.125}, "12.5 % of the MACs"),
        ({"target_latency": 1.5}, "1.5 ms"),
        ({"drop_bound": 2.0}, "drop of 2 points"),
    ],
)
def test_the_target_is_in_words(wish: dict[str, float], said: str, tmp_path: Path) -> None:
    assert only(make_run(tmp_path / "a", CONFIG | wish)).target == said


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("report.json", b""),
        ("report.json", b'{"model": "demo"'),
        ("report.json", b"[1, 2]"),
        ("report.json", b"\xff\xfe\x00"),
        ("report.json", b"[" * 100_000),
        ("report.json", json.dumps(REPORT | {"ratios": None}).encode()),
        ("report.json", json.dumps(REPORT | {"model": ["demo"]}).encode()),
        ("config.yaml", b"a: [b"),
        ("config.yaml", b"- a"),
        ("config.yaml", b"model: 3"),
        ("config.yaml", b"!!python/object/apply:os.system ['echo']"),
        ("config.yaml", b"[" * 5000),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:20].decode("latin1"),
)
def test_a_damaged_run_is_shown_as_such_beside_the_others(
    name: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "good", report=REPORT)
    bad = make_run(tmp_path / "bad", report=REPORT)
    (bad / name).write_bytes(content)
    states = {Path(run.folder).name: run.state for run in find_runs(tmp_path)}
    assert states == {"good": "finished", "bad": "damaged"}
    assert main(["runs", str(tmp_path)]) == 0
    assert "damaged" in capsys.readouterr().out


def test_a_link_to_nowhere_is_a_run_of_which_nothing_is_known(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "config.yaml").symlink_to("gone")
    run = only(tmp_path)
    assert (run.state, run.model) == ("unfinished", None)


def test_runs_are_found_below_and_listed_by_age(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seconds, name in ((1e9, "deep/er/new"), (1e9 - 200, "old"), (1e9 - 100, "between")):
        folder = make_run(tmp_path / name, report=REPORT)
        os.utime(folder / "config.yaml", (seconds, seconds))
    (tmp_path / "no run").mkdir()
    assert main(["runs", str(tmp_path), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [Path(run["folder"]).name for run in listed] == ["old", "between", "new"]
    assert main(["runs", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    for part in ("deep/er/new", "finished", "demo", "digits", "49.8 %", "97.80 %", "97.20 %", "2001-09-"):
        assert part in table, part


def test_a_folder_without_runs_and_none_at_all_get_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", str(tmp_path)]) == 0
    assert "no runs in" in capsys.readouterr().out
    assert main(["runs", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder" in capsys.readouterr().err
