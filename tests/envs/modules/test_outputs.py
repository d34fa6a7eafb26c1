"""What a network answers: logits are found beside probabilities, and probabilities alone are said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.agent import PruningConfig, prune
from secateur.agent.cli import main
from secateur.envs.modules.outputs import (
    PROBABILITIES_ALONE,
    PROBABILITIES_BESIDE_LOGITS,
    main_and_auxiliary,
    main_output,
)
from secateur.envs.modules.precision import autocast
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.recovery.training_loss import StepLoss
from secateur.envs.tasks import ClassificationTask, MacroF1, TensorTask, measure
from secateur.envs.tasks.user_task import check_answers

Answer = Callable[[nn.Module, Tensor], Any]


class Classifier(nn.Module):
    """Two convolutions and a linear layer, with something to be done to the logits."""

    def __init__(self, answer: Answer, features: int = 10) -> None:
        super().__init__()
        self.answer = answer
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, stride=2, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, features),
        )

    def forward(self, x: Tensor) -> Any:
        return self.answer(self, self.body(x))


def plain(_: nn.Module, z: Tensor) -> Any:
    return z


def as_yolo(model: nn.Module, z: Tensor) -> Any:
    """Answer as the classifiers of ultralytics do."""
    return z if model.training else (z.softmax(1), z)


def both_always(_: nn.Module, z: Tensor) -> Any:
    return z, z.softmax(1)


def probabilities(_: nn.Module, z: Tensor) -> Any:
    return z.softmax(1)


def probabilities_and_features(_: nn.Module, z: Tensor) -> Any:
    return z.softmax(1), 3 * z


def network(answer: Answer, seed: int = 0) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(answer)
        nn.init.normal_(model.body[-1].weight, std=2.0)  # far from uniform, so that a softmax shows
        return model.eval()


@pytest.mark.parametrize("answer", [as_yolo, both_always])
def test_loss_and_accuracy_are_those_of_the_network_that_gives_logits_alone(
    answer: Answer, digit_task: ClassificationTask
) -> None:
    assert measure(network(answer), digit_task, "val") == measure(network(plain), digit_task, "val")


@pytest.mark.parametrize("answer", [as_yolo, both_always])
def test_training_with_such_a_teacher_is_training_with_logits_bit_for_bit(
    answer: Answer, digit_task: ClassificationTask
) -> None:
    trained = []
    for kind in (answer, plain):
        model = network(kind)
        finetune(model, digit_task, RecoveryConfig(epochs=1, batch_size=256), teacher=network(kind, seed=1))
        trained.append(model.state_dict())
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[1])


def test_a_step_in_evaluation_mode_compares_logits_with_logits(digit_task: ClassificationTask) -> None:
    batch = digit_task.batch("train", torch.arange(16))
    losses = [
        StepLoss(digit_task, network(kind, seed=1), RecoveryConfig())(network(kind), *batch)
        for kind in (as_yolo, both_always, plain)
    ]
    assert losses[0] == losses[1] == losses[2]


def test_candidates_and_importance_are_measured_by_the_logits(digit_task: ClassificationTask) -> None:
    problems = [
        PruningProblem.build("net", network(kind), digit_task, images=64, statistics_images=64)
        for kind in (as_yolo, plain)
    ]
    masks = [np.arange(layer.filters) >= 3 for layer in problems[0].network.layers]
    (one,), (other,) = (problem.evaluator([masks]) for problem in problems)
    for kind in ("loss", "dense_loss", "constant_prediction_loss"):  # rounded otherwise, if folded or not
        assert getattr(one, kind) == pytest.approx(getattr(other, kind), rel=0.01)
    assert one.accuracy == pytest.approx(other.accuracy, abs=3)
    for one, other in zip(problems[0].scores["taylor"], problems[1].scores["taylor"], strict=True):
        assert (one == other).all()


def test_the_whole_job_prunes_such_a_network_as_the_plain_one_and_says_so_once(
    digit_task: ClassificationTask, capsys: pytest.CaptureFixture[str]
) -> None:
    config = PruningConfig(method="l2-uniform", epochs=1, batch_size=256)
    found, expected = (prune(network(kind), digit_task, config).report for kind in (as_yolo, plain))
    for key in ("accuracy", "loss"):
        assert found["pruned"][key] == expected["pruned"][key]
        assert found["dense"][key] == expected["dense"][key]
    assert found["splits"]["notes"].count(PROBABILITIES_BESIDE_LOGITS) == 1
    assert PROBABILITIES_BESIDE_LOGITS not in expected["splits"]["notes"]
    assert capsys.readouterr().err.count(PROBABILITIES_BESIDE_LOGITS) == 1


NETS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, both):
        super().__init__()
        self.both = both
        self.conv, self.norm = nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        z = self.head(self.norm(self.conv(x)).relu().mean((2, 3)))
        return (z.softmax(1), z) if self.both and not self.training else z

def yolo(num_classes):
    return Net(num_classes, True)

def plain(num_classes):
    return Net(num_classes, False)
"""


def test_a_run_of_such_a_network_is_evaluated_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "two_answers.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    found = []
    for name in ("yolo", "plain"):
        words = ["--method", "l2-uniform", "--epochs", "1", "--dense-epochs", "1", "--out", name]
        assert main(["prune", f"two_answers:{name}", *words]) == 0
        capsys.readouterr()
        assert main(["evaluate", name, "--json"]) == 0
        printed = capsys.readouterr()
        assert (PROBABILITIES_BESIDE_LOGITS in printed.err) == (name == "yolo")
        told = json.loads(printed.out)
        found.append((told["accuracy"], told["loss"]))
    assert found[0] == found[1]
    assert main(["export", "yolo"]) == 0
    probability, logits = torch.export.load(tmp_path / "yolo" / "model.pt2").module()(torch.ones(3, 1, 8, 8))
    torch.testing.assert_close(probability, logits.softmax(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("shape", [(1, 2), (2, 2), (16, 10), (4, 1000), (1, 21, 5, 7), (2, 2, 4, 4)])
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_logits_are_found_beside_their_softmax_and_their_sigmoid(
    shape: tuple[int, ...], dtype: torch.dtype, scale: float
) -> None:
    z = (scale * torch.randn(shape)).to(dtype)
    features = torch.randn(len(z), 3)
    for p in (z.softmax(1), z.sigmoid()):
        for given in ((p, z), (z, p), [p, z], (p, features, z)):
            answer, auxiliary = main_and_auxiliary(given)
            assert torch.equal(answer, z.float())
            assert not any(torch.equal(other, p.float()) for other in auxiliary if other.shape == p.shape)


def test_one_logit_is_found_beside_its_sigmoid_but_not_beside_ones() -> None:
    z = torch.randn(4, 1)
    assert main_output((z.sigmoid(), z)) is z
    ones = torch.ones(4, 1)  # the softmax of anything, and here the number that is predicted
    assert main_output((ones, z)) is ones


@pytest.mark.parametrize("answer", [as_yolo, lambda _, z: (z.sigmoid(), z), both_always])
def test_logits_are_found_under_autocast(answer: Answer) -> None:
    inputs = torch.randn(8, 1, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(main_output(network(answer)(inputs)), network(plain)(inputs).float())
    with torch.no_grad(), autocast(inputs.device):
        assert torch.equal(main_output(network(answer)(inputs)), network(plain)(inputs).float())


def test_logits_that_are_no_numbers_are_still_the_logits() -> None:
    z = torch.randn(4, 10)
    z[2] = float("nan")
    assert main_output((z.softmax(1), z)) is z


def test_auxiliary_heads_stay_what_they_are() -> None:
    heads = [torch.randn(4, 10) for _ in range(3)]
    assert main_and_auxiliary(tuple(heads)) == (heads[0], heads[1:])
    p, features = torch.rand(4, 10), torch.randn(4, 3)
    assert main_and_auxiliary((p, features)) == (p, [features])
    assert main_output({"out": heads[0], "aux": heads[1]}) is heads[0]


def test_probabilities_without_their_logits_are_refused_in_one_line(digit_task: ClassificationTask) -> None:
    with pytest.raises(ValueError, match="give a network that returns logits") as caught:
        prune(network(probabilities_and_features), digit_task, PruningConfig(method="l2-uniform"))
    assert "\n" not in str(caught.value)


def test_probabilities_alone_are_said_and_pruned(
    digit_task: ClassificationTask, capsys: pytest.CaptureFixture[str]
) -> None:
    config = PruningConfig(method="l2-uniform", epochs=0)
    report = prune(network(probabilities), digit_task, config).report
    assert PROBABILITIES_ALONE in report["splits"]["notes"]
    assert PROBABILITIES_ALONE in capsys.readouterr().err


@pytest.mark.parametrize("answer", [plain, lambda _, z: z.softmax(1) / 2, lambda _, z: (z, z + 1)])
def test_of_other_answers_nothing_is_said(answer: Answer, digit_task: ClassificationTask) -> None:
    assert check_answers(network(answer), digit_task) == ()


def test_shares_that_are_to_be_predicted_are_no_mistake() -> None:
    parts = {}
    for seed, name in enumerate(("train", "val", "test")):
        images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        parts[name] = (images, torch.rand(8, 10).softmax(1))
    task = TensorTask(
        **parts, loss=F.mse_loss, metric=lambda outputs, targets: 100 - F.mse_loss(outputs, targets)
    )
    for answer in (probabilities, probabilities_and_features):
        assert check_answers(network(answer), task) == ()


def test_labels_are_measured_by_their_logits_too_and_it_is_said() -> None:
    parts = {}
    for seed, name in enumerate(("train", "val", "test")):
        images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        parts[name] = (images, (torch.arange(80).view(8, 10) % 3 == 0).float())
    task = TensorTask(**parts, loss=F.binary_cross_entropy_with_logits, metric=MacroF1())
    both = network(lambda model, z: z if model.training else (z.sigmoid(), z))
    assert measure(both, task, "val").loss == measure(network(plain), task, "val").loss
    assert check_answers(both, task) == (PROBABILITIES_BESIDE_LOGITS,)
