"""What a run leaves behind: all that it found out, and nothing where it was refused."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from secateur.agent.cli import main
from secateur.agent.commands import Prune
from secateur.agent.run import folder as folders
from secateur.agent.run.folder import RunFolder
from secateur.agent.run.locks import is_locked, lock_folder, unlock_folder
from secateur.envs.io.tensor_files import write_tensors
from secateur.envs.io.untrusted import parse_json
from secateur.envs.recovery.checkpoint import Stopped
from support.processes import PROCESSES, compete


def left(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def fail(error: BaseException) -> Callable[..., Any]:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    return failing


def test_a_run_that_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expecting value"), RunFolder(tmp_path / "a/b", Prune()):
        parse_json("")
    assert not left(tmp_path)


def test_an_empty_folder_that_was_there_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expecting value"), RunFolder(tmp_path, Prune()):
        parse_json("")
    assert tmp_path.is_dir()
    assert not left(tmp_path)


def test_without_space_for_the_configuration_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "write_atomically", fail(OSError(errno.ENOSPC, "no space")))
    with pytest.raises(OSError, match="no space"):
        RunFolder(tmp_path / "a/b", Prune())
    assert not left(tmp_path)


def test_without_space_for_the_lock_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "lock_folder", fail(OSError(errno.ENOSPC, "no space")))
    with pytest.raises(OSError, match="no space"):
        RunFolder(tmp_path / "a/b", Prune())
    assert not left(tmp_path)


def test_what_was_found_out_before_an_error_stays_to_go_on_from(tmp_path: Path) -> None:
    with contextlib.suppress(ValueError), RunFolder(tmp_path / "run", Prune()) as folder:
        folder.checkpoint("recovery").save({"step": 1})
        raise ValueError("lost")
    assert {"config.yaml", "checkpoints/recovery.checkpoint"} <= left(tmp_path / "run")
    assert ".lock" not in left(tmp_path / "run")


@pytest.mark.parametrize("error", [Stopped(), OSError(errno.ENOSPC, "no space")])
def test_who_stops_a_run_or_has_a_full_disk_at_its_very_beginning_can_go_on(
    tmp_path: Path, error: BaseException
) -> None:
    with contextlib.suppress(type(error)), RunFolder(tmp_path / "run", Prune()):
        raise error
    assert (tmp_path / "run" / "config.yaml").is_file()


def users_metric() -> None:
    raise KeyError("a label")


@pytest.mark.parametrize("failing", [fail(OSError(errno.ENOSPC, "no space")), users_metric])
def test_what_may_go_on_says_how(tmp_path: Path, failing: Callable[[], None]) -> None:
    with (
        pytest.raises((OSError, KeyError)) as caught,
        RunFolder(tmp_path / "run", Prune(), advice="the advice"),
    ):
        failing()
    assert caught.value.__notes__ == ["once that is mended, go on with: the advice"]
    assert (tmp_path / "run" / "config.yaml").is_file()


def test_what_was_refused_gives_no_hope(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expecting") as caught, RunFolder(tmp_path / "run", Prune()):
        parse_json("")
    assert not hasattr(caught.value, "__notes__")


def test_a_file_that_somebody_put_there_meanwhile_stays(tmp_path: Path) -> None:
    with contextlib.suppress(ValueError), RunFolder(tmp_path / "run", Prune()):
        (tmp_path / "run" / "mine.txt").write_text("mine")
        raise ValueError("refused")
    assert (tmp_path / "run" / "mine.txt").read_text() == "mine"


def test_a_finished_run_has_no_lock_file(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", Prune()):
        assert is_locked(tmp_path / "run")
    assert ".lock" not in left(tmp_path / "run")


def test_going_on_removes_what_a_killed_process_left_and_nothing_else(tmp_path: Path) -> None:
    with RunFolder(tmp_path, Prune()) as folder:
        pass
    kept = left(tmp_path)
    for name in (".lock", ".plan.json.17.tmp", ".notes.tmp", "mine.17.tmp"):
        (tmp_path / name).write_text("half of a")
    with RunFolder(tmp_path, Prune(), resumed=True) as folder:
        assert folder.path == tmp_path
    found = {name for name in left(tmp_path) if not name.startswith("events.")}
    assert found == {name for name in kept if not name.startswith("events.")} | {".notes.tmp", "mine.17.tmp"}


def test_going_on_that_fails_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(Stopped), RunFolder(tmp_path, Prune()):
        raise Stopped
    before = left(tmp_path)
    with pytest.raises(ValueError, match="refused"), RunFolder(tmp_path, Prune(), resumed=True):
        raise ValueError("refused")
    assert before <= left(tmp_path)


@pytest.mark.parametrize("name", [".lock", ".config.yaml.17.tmp"])
def test_a_folder_in_which_a_process_was_killed_before_it_began_is_new(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with RunFolder(tmp_path, Prune()):
        assert name == ".lock" or not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["mine.txt", ".hidden", ".plan.json.17.tmp", "config.yaml"])
def test_a_folder_that_holds_anything_else_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match="is not empty"):
        RunFolder(tmp_path, Prune())
    assert left(tmp_path) == {name}


def test_another_process_is_refused_and_takes_nothing_away(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    lock = lock_folder(tmp_path / "run")
    with pytest.raises(ValueError, match="another process is working in"):
        RunFolder(tmp_path / "run", Prune())
    assert is_locked(tmp_path / "run")
    unlock_folder(lock)
    assert not left(tmp_path / "run")


def test_a_lock_is_held_by_one_process_although_its_file_comes_and_goes(tmp_path: Path) -> None:
    begin = PROCESSES.Event()
    processes = [PROCESSES.Process(target=compete, args=(tmp_path, begin, 300)) for _ in range(3)]
    for process in processes:
        process.start()
    begin.set()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert not left(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ["prune", "--weights", "nowhere.safetensors"],
        ["prune", "resnet20", "--data", "digits", "--target-macs", "0.01"],
        ["prune", "--data", "nowhere"],
        ["prune", "--dense-epochs", "-1"],
        ["train", "demo", "--weights", "nowhere.safetensors"],
        ["train", "demo", "--dense-epochs", "-1"],
        ["frontier", "demo", "--weights", "nowhere.safetensors"],
    ],
)
def test_no_refused_verb_leaves_a_folder(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--out", str(tmp_path / "runs" / "one")]) == 2
    assert not left(tmp_path)


def test_a_network_that_gives_no_numbers_is_refused_without_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("secateur.agent.procedures.prune.prune", lambda *_, **__: parse_json(""))
    assert main(["prune", "--dense-epochs", "0", "--out", str(tmp_path / "runs" / "one")]) == 2
    assert not left(tmp_path)
    assert main(["runs", str(tmp_path)]) == 0
    assert "no runs in" in capsys.readouterr().out


def test_weights_on_a_full_disk_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    monkeypatch.setattr("secateur.envs.io.tensor_files.save_file", fail(full))
    with pytest.raises(OSError, match=r"a\.safetensors cannot be written \(.*No space left"):
        write_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(2)})
    assert not left(tmp_path)
