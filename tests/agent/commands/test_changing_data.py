"""Data that change during a run: one line that names the file, and a run that goes on after a repair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from secateur.agent.cli import main
from secateur.agent.procedures import prune as procedure
from secateur.envs.tasks import get_task
from support.folders import SHADES, write_shades

DATA = ["--data", "data", "--in-memory", "never", "--workers", "1", "--augment", "flip-crop"]
WORDS = ["prune", "own_nets:build", *DATA, "--method", "l2-uniform", "--dense-epochs", "1", "--epochs", "2"]


def test_a_run_whose_images_change_stops_with_one_line_and_goes_on_after_a_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_nets.py").write_text(SHADES)
    write_shades(tmp_path / "data", {"train": 143, "test": 10})
    assert main([*WORDS, "--out", "undisturbed"]) == 0
    train = get_task("data", root=tmp_path, in_memory="never").splits["train"]
    path = Path(train.described(150))
    content, recover = path.read_bytes(), procedure.recover_pruned

    def recover_without_it(*given: Any, **named: Any) -> Any:
        path.unlink()
        return recover(*given, **named)

    capfd.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(procedure, "recover_pruned", recover_without_it)
        assert main([*WORDS, "--out", "run"]) == 2
    *_, last = capfd.readouterr().err.splitlines()
    assert last.startswith(f"secateur: {path} is no longer there: put it back")
    assert not (tmp_path / "run" / "report.json").exists()
    path.write_bytes(content)
    assert main(["resume", "run"]) == 0
    text = capfd.readouterr().err
    assert "Traceback" not in text
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("undisturbed", "run")]
    assert weights[0] == weights[1]
