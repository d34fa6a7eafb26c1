"""Times of networks, and of the search: what cannot be timed loses no run, and limits are kept."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import secateur
from secateur.agent.cli import main
from secateur.envs.tasks import ClassificationTask
from support.command_line import refusal
from support.small import plain_network


class NoSingles(nn.Module):
    """A network that does not run on one example, as those do that squeeze all axes of size 1."""

    def __init__(self) -> None:
        super().__init__()
        self.network = plain_network()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).squeeze().log_softmax(1)


def test_a_run_is_kept_whose_network_cannot_be_timed(digit_task: ClassificationTask, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = secateur.prune(NoSingles(), digit_task, method="l2-uniform", target_macs=0.5, epochs=0, out=out)
    report = json.loads((out / "report.json").read_text())
    assert report["pruned"]["latency_ms"] is None
    (note,) = [note for note in report["splits"]["notes"] if note.startswith("The network cannot be timed: ")]
    assert note.endswith("; give another latency_batch, latency_dtype or latency_device.")
    page = (out / "report.html").read_text()
    assert "<td>–</td>" in page  # noqa: RUF001
    assert ">nan" not in page
    assert math.isnan(result.report["ratios"]["latency_ms"])
    assert secateur.load(NoSingles, out)(torch.zeros(2, *digit_task.input_shape)).shape == (2, 10)


def test_settings_of_times_that_do_not_work_are_refused_before_anything_else(
    digit_task: ClassificationTask, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="give a smaller latency_batch"):
        secateur.prune(plain_network(), digit_task, latency_batch=10**9, out=tmp_path / "run")
    with pytest.raises(ValueError, match=r"on 1 example .*; give another latency_batch"):
        secateur.prune(NoSingles(), digit_task, latency_threads=2, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_timed_again_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    words = ["--method", "l2-uniform", "--dense-epochs", "1", "--epochs", "0", "--latency-batch", "3"]
    assert main(["prune", *words, "--out", out]) == 0
    for further, batch in (([], 3), (["--latency-batch", "5"], 5)):
        capsys.readouterr()
        assert main(["evaluate", out, "--json", *further]) == 0
        assert json.loads(capsys.readouterr().out)["latency"]["batch"] == batch
    said = refusal(["evaluate", out, "--latency-batch", "0"], capsys)
    assert "latency_batch is 0; allowed is at least 1" in said


def test_the_minutes_of_a_search_limit_its_agent(
    digit_task: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def given(*positional: object, **_: object) -> None:
        limits.append(positional[4])
        raise KeyboardInterrupt

    limits: list[object] = []
    monkeypatch.setattr("secateur.agent.procedures.choosing.prune_at_once", given)
    for minutes in (None, 0.01):
        with pytest.raises(KeyboardInterrupt):
            secateur.search(plain_network(), digit_task, evaluations=64, minutes=minutes)
    assert limits == [None, 1.0]  # seconds: one update is measured in any case


def test_a_network_without_times_is_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nosingles.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        "    def forward(self, images):\n"
        "        return self.layers(images).squeeze().log_softmax(1)\n"
    )
    assert main(["evaluate", "nosingles:Net"]) == 0
    shown = capsys.readouterr()
    assert "The network cannot be timed" in shown.err
    assert "– at a batch of 1, on 1 thread, in float32" in shown.out  # noqa: RUF001
    assert "nan" not in shown.out
