"""What a run promises of its recovery: a teacher of one's own, training on val, and what the report says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import secateur
from secateur.agent import PruningConfig, prune
from secateur.agent.cli import main
from secateur.agent.procedures.data_config import DataConfig
from secateur.agent.procedures.val_in_train import without_held_out
from secateur.envs.io.tensor_files import write_tensors
from secateur.envs.models import get_model
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery import finetuning
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.tasks import ClassificationTask
from support.small import plain_network

BRIEF: dict[str, Any] = {"target_macs": 0.5, "method": "l2-uniform", "search_images": 64, "epochs": 1}


@pytest.fixture(scope="module")
def few(digit_task: ClassificationTask) -> ClassificationTask:
    return dataclasses.replace(
        digit_task,
        splits={name: part.take(torch.arange(0, len(part), 3)) for name, part in digit_task.splits.items()},
    )


class Wider(nn.Module):
    """Another network for digits, with a given number of outputs."""

    def __init__(self, outputs: int = 10) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(6, outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images))


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def test_the_teacher_is_the_dense_network_unless_another_is_given(few: ClassificationTask) -> None:
    teacher = Wider().train()
    before = weights(teacher)
    usual = secateur.prune(plain_network(), few, **BRIEF)
    taught = secateur.prune(plain_network(), few, teacher=teacher, **BRIEF)
    alone = secateur.prune(plain_network(), few, distillation_weight=0.0, **BRIEF)
    names = [result.report["recovery"]["teacher"] for result in (usual, taught, alone)]
    assert names == ["the dense network", "Wider", None]
    assert usual.plan == taught.plan
    assert usual.report["recovery"]["losses"] != taught.report["recovery"]["losses"]
    assert teacher.training
    assert all(torch.equal(a, b) for a, b in zip(weights(teacher), before, strict=True))


def test_a_teacher_without_the_tasks_outputs_is_refused(few: ClassificationTask) -> None:
    with pytest.raises(ValueError, match=r"^the teacher Wider does not answer as digits needs it, with 10"):
        secateur.prune(plain_network(), few, teacher=Wider(outputs=3), **BRIEF)


@pytest.mark.parametrize("option", ["epochs", "distillation_weight"])
def test_a_teacher_that_would_not_be_used_is_refused(few: ClassificationTask, option: str) -> None:
    with pytest.raises(ValueError, match=f"^a teacher is not used with {option} 0; leave one of them out$"):
        secateur.prune(plain_network(), few, teacher=Wider(), **BRIEF | {option: 0})


def test_what_is_no_teacher_is_refused(few: ClassificationTask) -> None:
    with pytest.raises(TypeError, match=r"^the teacher is str; give an nn\.Module$"):
        secateur.prune(plain_network(), few, teacher="resnet20", **BRIEF)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="teacher is an option of prune and recover, not of search"):
        secateur.search(plain_network(), few, teacher=Wider())


def test_a_run_goes_on_only_with_the_teacher_it_was_begun_with(
    few: ClassificationTask, tmp_path: Path
) -> None:
    secateur.prune(plain_network(), few, teacher=Wider(), out=tmp_path / "run", **BRIEF)
    again = {"out": tmp_path / "run", "resume": True, **BRIEF}
    assert secateur.prune(plain_network(), few, teacher=Wider(), **again).report["recovery"]["epochs"] == 1
    with pytest.raises(ValueError, match="other weights of the dense network or the teacher"):
        secateur.prune(plain_network(), few, **again)


def test_the_layers_of_a_layerwise_run_learn_from_the_teacher_too(
    few: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    teachers = []

    def recorded(*given: Any, **named: Any) -> Any:
        teachers.append(type(named["teacher"]).__name__)
        return finetune(*given, **named)

    for module in ("layerwise", "recovery"):
        monkeypatch.setattr(f"secateur.agent.procedures.{module}.finetune", recorded)
    layers = len(
        secateur.prune(plain_network(), few, teacher=Wider(), procedure="layerwise", **BRIEF).report["layers"]
    )
    assert teachers == ["Wider"] * (layers + 1)


@pytest.fixture
def demo_weights(tmp_path: Path) -> Path:
    file = tmp_path / "demo.safetensors"
    write_tensors(file, get_model("demo", num_classes=10, in_channels=1).state_dict())
    return file


def test_the_command_line_names_a_teacher_and_its_weights(demo_weights: Path, tmp_path: Path) -> None:
    words = ["prune", "demo", "--weights", str(demo_weights), "--method", "l2-uniform", "--epochs", "1"]
    teacher = ["--teacher", "demo", "--teacher-weights", str(demo_weights)]
    assert main([*words, *teacher, "--out", str(tmp_path / "run"), "--quiet"]) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["recovery"]["teacher"] == f"demo ({demo_weights})"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--teacher", "resnet20"], "the teacher resnet20 has no weights; give --teacher-weights"),
        (["--teacher-weights", "mine.pt"], "--teacher-weights mine.pt are for a teacher; give --teacher"),
        (["--teacher", "resnet2"], "the teacher resnet2 has no weights"),
    ],
)
def test_half_a_teacher_is_answered_in_one_line(
    words: list[str],
    said: str,
    demo_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    assert main(["prune", "--weights", str(demo_weights), *words, "--out", str(out), "--quiet"]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def sizes_trained_on(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    stream = finetuning.stream

    def recorded(task: Any, passed: Any) -> Any:
        seen.append(task.size(passed.split))
        return stream(task, passed)

    monkeypatch.setattr(finetuning, "stream", recorded)
    return seen


def test_the_recovery_trains_on_val_too_and_says_so(
    few: ClassificationTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = sizes_trained_on(monkeypatch)
    out = tmp_path / "run"
    report = secateur.prune(plain_network(), few, train_on_val=True, out=out, **BRIEF).report
    assert seen == [few.size("train") + few.size("val")]
    assert report["recovery"]["val_accuracy_after"] is None
    assert report["recovery"]["val_accuracy_before"] > 0
    assert any("trained on the images of val, too" in note for note in report["splits"]["notes"])
    assert "after tuning" not in (out / "report.html").read_text()
    assert report["splits"]["test"] == few.size("test")


def test_no_accuracy_on_val_is_logged_once_it_is_trained_on(few: ClassificationTask, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    counts = {}
    for trains in (False, True):
        out = tmp_path / str(trains)
        secateur.prune(plain_network(), few, train_on_val=trains, out=out, **BRIEF | {"epochs": 2})
        events = EventAccumulator(str(out)).Reload()
        counts[trains] = {name: len(events.Scalars(f"recovery/{name}")) for name in ("val_accuracy", "loss")}
    assert counts[False] == {"val_accuracy": 3, "loss": 2}
    assert counts[True] == {"val_accuracy": 1, "loss": 2}  # the one before training


@pytest.mark.parametrize(("weight", "distillation"), [(0.5, "of the task"), (0.0, None)])
def test_the_report_says_what_the_defaults_were(
    few: ClassificationTask, weight: float, distillation: str | None
) -> None:
    report = secateur.prune(plain_network(), few, distillation_weight=weight, **BRIEF).report
    recovery = report["recovery"]
    assert recovery["precision"] in ("fp32", "bf16")
    assert recovery["distillation"] == distillation
    assert None not in (recovery["learning_rate"], recovery["schedule"], recovery["epochs"])


def test_without_epochs_nothing_knows_val(few: ClassificationTask) -> None:
    report = secateur.prune(plain_network(), few, train_on_val=True, **BRIEF | {"epochs": 0}).report
    assert report["recovery"]["val_accuracy_after"] == report["recovery"]["val_accuracy_before"]


def test_recover_trains_on_val_too(few: ClassificationTask, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = sizes_trained_on(monkeypatch)
    secateur.recover(plain_network(), few, epochs=1, train_on_val=True)
    assert seen == [few.size("train") + few.size("val")]


def test_recover_takes_the_epochs_of_its_effort(
    few: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = sizes_trained_on(monkeypatch)
    secateur.recover(plain_network(), few, effort="quick")
    assert len(seen) == 10
    with pytest.raises(ValueError, match="no effort 'slow'"):
        secateur.recover(plain_network(), few, effort="slow")  # type: ignore[arg-type]


@pytest.mark.parametrize(("val_from", "trains"), [("train", True), ("auto", True), ("test", False)])
def test_a_half_of_test_is_never_trained_on(val_from: str, trains: bool) -> None:
    for config in (RecoveryConfig(train_on_val=True), PruningConfig(train_on_val=True)):
        resolved, notes = without_held_out(config, DataConfig(val_from=val_from))
        assert resolved.train_on_val is trains
        assert type(resolved) is type(config)
        assert len(notes) == (not trains)
    assert without_held_out(RecoveryConfig(), DataConfig(val_from="test")) == (RecoveryConfig(), ())


def test_a_run_whose_val_is_of_test_trains_on_train_alone(
    demo_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = sizes_trained_on(monkeypatch)
    words = ["prune", "demo", "--weights", str(demo_weights), "--method", "l2-uniform", "--epochs", "1"]
    out = tmp_path / "run"
    assert main([*words, "--val-from", "test", "--train-on-val", "--out", str(out), "--quiet"]) == 0
    report = json.loads((out / "report.json").read_text())
    assert seen == [report["splits"]["train"]]
    assert report["recovery"]["val_accuracy_after"] is not None
    assert any("--val-from test" in note for note in report["splits"]["notes"])


def test_the_report_says_the_recipe_that_was_followed(few: ClassificationTask) -> None:
    recovery = prune(plain_network(), few, PruningConfig(**BRIEF)).report["recovery"]
    recipe = {"schedule": "one-cycle", "learning_rate": 0.02, "warmup": 0.2}
    assert recipe | {"distillation_weight": 0.5, "epochs": 1} == {
        name: recovery[name] for name in (*recipe, "distillation_weight", "epochs")
    }


@pytest.mark.parametrize(("rate", "is_worse"), [(0.002, False), (3.0, True)])
def test_a_fine_tuning_that_makes_the_network_worse_is_noted(
    problem: PruningProblem, few: ClassificationTask, rate: float, is_worse: bool
) -> None:
    options = PruningConfig(**BRIEF | {"target_macs": 0.9, "learning_rate": rate})
    report = prune(problem.model, few, options).report
    found = [note for note in report["splits"]["notes"] if "made the network worse" in note]
    assert len(found) == is_worse
    if is_worse:
        assert f"lower --learning-rate, now {rate:g}, or --epochs 0" in found[0]
