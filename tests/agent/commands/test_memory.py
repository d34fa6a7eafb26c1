"""Memory that is not there: one line that says so, and nothing else is blamed for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from secateur.agent.cli import main
from secateur.envs.modules.modes import fastest_layout
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import ClassificationTask
from secateur.envs.tasks.user_task import check_answers
from support.command_line import refusal
from support.processes import finish
from support.small import plain_network

GREEDY = """
import numpy as np
import torch
from torch import nn

class Greedy(nn.Module):
    def __init__(self, num_classes, ask):
        super().__init__()
        self.ask = ask
        self.conv, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8, num_classes)

    def forward(self, x):
        self.ask()
        return self.head(self.conv(x).relu().mean((2, 3)))

def raising(error):
    def ask():
        raise error
    return ask

def torchs(num_classes):
    return Greedy(num_classes, lambda: torch.empty(2**50, dtype=torch.uint8))

def numpys(num_classes):
    return Greedy(num_classes, lambda: np.empty(2**50))

def pythons(num_classes):
    return Greedy(num_classes, lambda: bytearray(2**60))

def cudas(num_classes):
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 1 GiB")
    return Greedy(num_classes, raising(error))

def broken(num_classes):
    return Greedy(num_classes, raising(RuntimeError("the shapes do not fit")))

def built(num_classes):
    torch.empty(2**50, dtype=torch.uint8)

def two_gigabytes(num_classes):
    return Greedy(num_classes, lambda: torch.ones(2**31, dtype=torch.uint8))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "greedy_nets.py").write_text(GREEDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def only_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torchs", "the memory ran out when 1,125.9 TB more were requested: give"),
        ("numpys", "the memory ran out when 8.00 PiB more were requested: give"),
        ("pythons", "the memory ran out: give"),
        ("cudas", "the memory of the GPU ran out when 20.00 GiB more were requested: give"),
        ("built", "the memory ran out when 1,125.9 TB more were requested: give"),
    ],
)
def test_memory_that_runs_out_is_one_line_whoever_asked_for_it(
    name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", f"greedy_nets:{name}", "--dense-epochs", "0"]) == 2
    assert only_line(capsys.readouterr().err).startswith(f"secateur: {said}")


@pytest.mark.usefixtures("project")
def test_the_traceback_is_there_for_who_debugs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prune", "greedy_nets:torchs", "--debug"]) == 2
    assert "DefaultCPUAllocator" in capsys.readouterr().err


def test_an_input_beyond_all_memory_is_foreseen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "resnet20", "--input-shape", "3", "9000000", "9000000"]) == 2
    line = only_line(capsys.readouterr().err)
    assert "the activations of 2 inputs of 3x9000000x9000000 need " in line
    assert " of memory, available are " in line


def test_a_batch_for_timing_beyond_all_memory_is_foreseen(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prune", "--target-latency", "1", "--latency-batch", "1000000000"]
    assert refusal(words, capsys).endswith("give a smaller --latency-batch")


def test_a_process_with_little_memory_says_so_in_one_line_and_not_in_a_traceback(project: Path) -> None:
    errors = project / "errors"
    words = ["prune", "greedy_nets:two_gigabytes", "--dense-epochs", "0"]
    assert finish(words, errors, memory=10**9) == 2
    assert only_line(errors.read_text()).startswith(
        "secateur: the memory ran out when 2.1 GB more were requested"
    )


def test_a_process_with_little_memory_foresees_that_images_will_not_fit(project: Path) -> None:
    for name in ("cat", "dog"):
        (project / "train" / name).mkdir(parents=True)
        for k in range(20):
            Image.new("RGB", (8, 8)).save(project / "train" / name / f"{k}.png")
    errors = project / "errors"
    words = ["prune", "demo", "--data", str(project), "--image-size", "8000"]
    assert finish(words, errors, memory=10**9) == 2
    line = only_line(errors.read_text())
    assert line.startswith(f"secateur: the 40 images of {project}, 8000x8000 pixels each, need ")
    assert " of memory, available are " in line
    assert not (project / "runs").exists()


class Asking(nn.Module):
    """A network that asks for all the memory of the world when a condition holds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 10, 3, padding=1)

    def is_too_much(self, x: Tensor) -> bool:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        if self.is_too_much(x):
            torch.empty(2**50, dtype=torch.uint8)
        return self.last(self.conv(x).relu()).mean((2, 3))


class AskingWhenCut(Asking):
    def is_too_much(self, x: Tensor) -> bool:
        return len(self.conv.weight) < 8


class AskingInChannelsLast(Asking):
    def is_too_much(self, x: Tensor) -> bool:
        return x.stride(1) == 1


def test_a_layer_is_not_pinned_because_memory_ran_out() -> None:
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        trace_exactly(AskingWhenCut(), torch.zeros(2, 1, 8, 8))


def test_a_memory_layout_is_not_given_up_because_memory_ran_out() -> None:
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        fastest_layout(AskingInChannelsLast(), torch.zeros(2, 3, 8, 8))


def test_a_loss_is_not_blamed_because_memory_ran_out(
    digit_task: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss(*_: Any) -> Tensor:
        return torch.empty(2**50, dtype=torch.uint8)

    monkeypatch.setattr(type(digit_task), "loss", loss)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        check_answers(plain_network(), digit_task)


def test_other_errors_of_the_networks_code_are_not_called_memory(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", "greedy_nets:broken"]) == 2
    assert "the shapes do not fit" in only_line(capsys.readouterr().err)


def test_a_defect_of_our_own_is_not_called_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    ours: dict[str, Any] = {"__name__": "secateur.agent.commands.runs"}
    exec("def run(self): raise RuntimeError('dictionary changed size during iteration')", ours)
    monkeypatch.setattr("secateur.agent.commands.Runs.run", ours["run"])
    with pytest.raises(RuntimeError, match="dictionary changed size"):
        main(["runs"])
