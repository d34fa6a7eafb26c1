"""One's own network, data, loss and metric: from one's own file, and every mistake in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from secateur.agent import PruningConfig, prune
from secateur.agent.cli import main
from secateur.envs.modules.outputs import main_and_auxiliary, main_output
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.tasks import R2, Accuracy, LoaderTask, MacroF1, TensorTask, measure
from secateur.envs.tasks.optional_members import distill
from secateur.envs.tasks.user_task import check_answers, check_task, on_device

NETS = """
from torch import nn

def build(num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes),
    )
"""

TASK = """
import torch
import torch.nn.functional as F
from secateur.envs.tasks import R2, TensorTask

def split(seed):
    x = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return x, torch.stack([x.mean((1, 2, 3)), x.std((1, 2, 3))], 1)

def Task():
    return TensorTask(train=split(0), val=split(1), test=split(2), loss=F.mse_loss,
                      metric=R2(outputs=("mean", "std")), name="moments")

def Broken():
    raise RuntimeError("the disk is gone\\nreally")

class Half:
    name = "half"

Number = 3
"""

BRIEF = ["--method", "l2-uniform", "--epochs", "1", "--dense-epochs", "1"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a project of the user's own in the current directory."""
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "nets.py").write_text(NETS)
    (tmp_path / "mypackage" / "task.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("mypackage"):
            del sys.modules[name]


def network(outputs: int) -> nn.Module:
    namespace: dict[str, Any] = {}
    exec(NETS, namespace)
    torch.manual_seed(0)
    model: nn.Module = namespace["build"](outputs)
    return model


def images(count: int, seed: int) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


PARTS = ("train", "val", "test")


def numbers(**changes: Any) -> TensorTask:
    splits = {name: (x := images(40, k), x.mean((1, 2, 3))) for k, name in enumerate(PARTS)}
    settings: dict[str, Any] = {**splits, "loss": F.mse_loss, "metric": R2()}
    return TensorTask(**(settings | changes))


def labels(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Label an image by which of its quarters are bright."""
    x = images(count, seed)
    quarters = F.avg_pool2d(x, 4).flatten(1)
    return x, (quarters > 0.1).float()


def many_labels() -> TensorTask:
    return TensorTask(
        train=labels(64, 0),
        val=labels(32, 1),
        test=labels(32, 2),
        loss=F.binary_cross_entropy_with_logits,
        metric=MacroF1(labels=("nw", "ne", "sw", "se")),
        name="quarters",
    )


def test_a_project_of_ones_own_is_pruned_and_evaluated_from_the_command_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prune", "mypackage.nets:build", "--task", "mypackage.task:Task", *BRIEF, "--out", "run"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "test R²" in printed
    assert "std" in printed
    report = json.loads((project / "run" / "report.json").read_text())
    assert report["metric"] == "R²"
    assert report["data"] == "moments"
    assert [row["name"] for row in report["details"]] == ["mean", "std"]
    assert "std" in (project / "run" / "report.html").read_text()
    assert yaml.safe_load((project / "run" / "config.yaml").read_text())["task"]
    assert main(["evaluate", "run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == pytest.approx(report["pruned"]["accuracy"], abs=1e-3)
    assert found["metric"] == "R²"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "mypackage.task:Task", "--data", "mnist"], "leave out --data"),
        (["--task", "mypackage.task:Task", "--image-size", "8"], "leave out --image-size"),
        (["--task", "mypackage.task:Tsk"], "did you mean 'Task'?"),
        (["--task", "mypackage.tsk:Task"], "cannot be imported"),
        (["--task", "mypackage.task:Broken"], "RuntimeError: the disk is gone"),
        (["--task", "mypackage.task:Half"], "Half has no input_shape, num_outputs, notes, size"),
        (["--task", "mypackage.task:Number"], "int has no name"),
        (["--task", "segmentatoin"], "did you mean 'segmentation'?"),
    ],
)
def test_a_task_that_is_none_gets_one_line(
    words: list[str], said: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (project / "runs").exists()


@pytest.mark.parametrize(
    ("make", "outputs"), [(numbers, 1), (many_labels, 4)], ids=["regression", "multi-label"]
)
def test_numbers_and_labels_are_pruned_from_python(make: Any, outputs: int) -> None:
    task = make()
    assert task.num_outputs == outputs
    model = network(outputs)
    finetune(model, task, RecoveryConfig(epochs=2, batch_size=16, distillation_weight=0.0))
    config = PruningConfig(method="l2-uniform", epochs=1, batch_size=16)
    report = prune(model, task, config).report
    assert report["ratios"]["macs"] <= 0.5
    assert report["metric"] == task.metric_name
    assert len(report["details"]) == (4 if outputs == 4 else 0)


def test_a_function_of_ones_own_is_averaged_over_examples() -> None:
    def within(outputs: Tensor, targets: Tensor) -> Tensor:
        return 100.0 * ((outputs - targets).abs() < 10).float().mean()

    assert measure(network(1), numbers(metric=within), "val", batch_size=7).accuracy == 100.0


def test_integers_are_classes() -> None:
    splits = {name: (images(20, k), torch.arange(20) % 3) for k, name in enumerate(PARTS)}
    task = TensorTask(**splits, loss=F.cross_entropy, metric=Accuracy())
    assert task.num_outputs == 3
    check_answers(network(3), task)
    student, teacher = torch.randn(2, 4, 3)
    torch.testing.assert_close(
        distill(task, student, teacher, 4.0), distill(task, student + 1, teacher, 4.0)
    )  # a softmax does not see what is added to all classes
    with pytest.raises(ValueError, match="a network with 3 outputs"):
        check_answers(network(4), task)


def test_other_outputs_are_distilled_by_their_mean_squared_error_or_as_the_task_says() -> None:
    student, teacher = torch.randn(2, 4, 1)
    assert distill(numbers(), student, teacher, 4.0) == F.mse_loss(student, teacher)
    own = numbers(distillation=lambda s, t, _: F.l1_loss(s, t))
    assert distill(own, student, teacher, 4.0) == F.l1_loss(student, teacher)


def test_loaders_are_read_once_and_in_order() -> None:
    task = numbers()
    loaders = {
        name: DataLoader(TensorDataset(*task.batch(name, torch.arange(40))), batch_size=16)  # type: ignore[arg-type]
        for name in ("train", "val", "test")
    }
    read = LoaderTask(**loaders, loss=F.mse_loss, metric=R2())
    for name in ("train", "val", "test"):
        for one, other in zip(
            read.batch(name, torch.arange(40)), task.batch(name, torch.arange(40)), strict=True
        ):
            assert torch.equal(one, other)


def test_augmentation_of_ones_own_follows_the_generator() -> None:
    task = numbers(augment=lambda x: x + torch.randn(()))
    one, same, other = (
        task.batch("train", torch.arange(4), augment=True, generator=torch.Generator().manual_seed(s))[0]
        for s in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_bytes_are_pixels() -> None:
    pair = (torch.full((4, 1, 8, 8), 255, dtype=torch.uint8), torch.zeros(4))
    inputs, _ = numbers(**dict.fromkeys(PARTS, pair)).batch("train", torch.arange(2))
    assert inputs.dtype == torch.float32
    assert inputs.unique().tolist() == [1.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": images(4, 0)}, "train is a Tensor; give a pair"),
        ({"val": (images(4, 0), torch.zeros(3))}, "as many targets as inputs"),
        ({"val": (images(4, 0)[..., :4], torch.zeros(4))}, "inputs of different shapes"),
        (
            {"train": (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4))},
            "inputs of train are bytes",
        ),
        (dict.fromkeys(PARTS, (torch.zeros(4, 1, 8, 8, dtype=torch.cfloat), torch.zeros(4))), "are complex"),
        ({"metrics": R2()}, "a task has no setting 'metrics', did you mean 'metric'"),
        ({"loss": "mse"}, "the loss is of type str"),
        ({"loss": nn.MSELoss}, "the loss is the class MSELoss; give .*MSELoss"),
        ({"metric": R2}, r"the metric is the class R2; give R2\(\)"),
    ],
)
def test_what_does_not_belong_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        numbers(**changes)


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ([], "val gives nothing; give at least one"),
        (3, "cannot be read"),
        ([images(4, 0)], "val gives a Tensor; it has to give pairs"),
        ([(images(4, 0), [1, 2])], "val gives a batch of 4 inputs and 2 targets"),
        ([(images(4, 0), torch.zeros(4)), (images(4, 0)[..., :4], torch.zeros(4))], "differ in shape"),
    ],
)
def test_a_loader_with_the_wrong_content_is_named(loader: Any, message: str) -> None:
    good = [(images(4, 0), torch.zeros(4))]
    with pytest.raises((TypeError, ValueError), match=message):
        LoaderTask(train=good, val=loader, test=good, loss=F.mse_loss, metric=R2())


class Wrong:
    """A task of which everything can be overridden by what is wrong."""

    def __init__(self, **members: Any) -> None:
        self.__dict__.update(members)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(numbers(), name)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"num_outputs": "10"}, "num_outputs of the task is '10'; it has to be an int"),
        ({"input_shape": (1.5, 8, 8)}, "input_shape of the task"),
        ({"notes": "all is well"}, "notes of the task is 'all is well'; it has to be a tuple of str"),
        ({"size": lambda split: 0}, "at least 2"),
        ({"batch": lambda *_, **__: images(2, 0)}, "gives a Tensor; give a pair"),
        (
            {"batch": lambda *_, **__: (images(2, 0), {"label": 1})},
            r"gives \(Tensor, dict\); give a pair of tensors.* or a task with training_loss",
        ),
        ({"batch": lambda *_, **__: (images(2, 0).double(), torch.zeros(2))}, "float64"),
        ({"batch": lambda *_, **__: (images(2, 0) / 0, torch.zeros(2))}, "infinite or undefined"),
        ({"batch": lambda *_, **__: {}["x"]}, "failed .KeyError"),
        ({"loss": lambda outputs, targets: 0.5}, "loss of own data is 0.5"),
        ({"loss": lambda outputs, targets: outputs @ targets}, "the loss of own data failed on outputs"),
        ({"statistics": lambda outputs, targets: 3}, "statistics of own data is 3"),
        ({"metric": lambda statistics: statistics}, "metric of own data is a Tensor; it has to be a float"),
    ],
)
def test_every_wrong_member_of_a_task_is_named_in_one_line(members: dict[str, Any], message: str) -> None:
    def check(task: Any) -> None:
        check_task(task)
        check_answers(network(1), task)

    with pytest.raises((TypeError, ValueError), match=message) as caught:
        check(Wrong(**members))
    assert "\n" not in str(caught.value)


def test_a_task_that_cannot_move_has_its_batches_moved() -> None:
    class Fixed(Wrong):
        def __getattr__(self, name: str) -> Any:
            if name == "to":
                raise AttributeError(name)
            return super().__getattr__(name)

    moved = on_device(Fixed(), torch.device("meta"))  # type: ignore[arg-type]
    assert moved.name == "own data"
    assert moved.batch("train", torch.arange(2))[0].device.type == "meta"


def test_the_answer_is_found_in_whatever_a_network_gives() -> None:
    x, y = torch.randn(2, 3), torch.randn(2, 3)
    assert main_output({"out": x, "aux": y}) is x
    assert main_and_auxiliary({"out": x, "aux": y})[1][0] is y
    assert main_output({"logits": x}) is x
    assert main_output((x, None)) is x
    for wrong in ({"a": x, "b": y}, None, (), ("x",)):
        with pytest.raises(TypeError, match="give a network that returns a tensor"):
            main_output(wrong)
