"""What distillation promises: the losses of the papers, for networks of different widths."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.recovery.config import Distillation, RecoveryConfig
from secateur.envs.recovery.distillation import WithFeatures, relational_loss, similarity_loss
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.recovery.training_check import check_training
from secateur.envs.recovery.training_loss import StepLoss
from secateur.envs.tasks import ClassificationTask
from secateur.envs.tasks.optional_members import distillation_loss

STUDENT = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TEACHER = torch.randn(5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def network(width: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)
    )


def huber(difference: float) -> float:
    return difference**2 / 2 if abs(difference) <= 1 else abs(difference) - 0.5


def by_hand(features: Tensor) -> tuple[list[float], list[float]]:
    """Give the distances of pairs and the cosines of triplets of Park et al. 2019, one after the other."""
    count = len(features)
    lengths = [[float((a - b).norm()) for b in features] for a in features]
    mean = sum(map(sum, lengths)) / (count * (count - 1))
    cosines = []
    for j in range(count):
        for i in range(count):
            for k in range(count):
                if j in (i, k):
                    cosines.append(0.0)
                    continue
                one, other = features[i] - features[j], features[k] - features[j]
                cosines.append(float(one @ other / (one.norm() * other.norm())))
    return [length / mean for row in lengths for length in row], cosines


def test_the_similarity_loss_is_that_of_the_paper() -> None:
    expected = 0.0
    rows = []
    for features in (STUDENT, TEACHER):
        products = [[float(a @ b) for b in features] for a in features]
        rows.append([[x / sum(y**2 for y in row) ** 0.5 for x in row] for row in products])
    for mine, others in zip(*rows, strict=True):
        expected += sum((a - b) ** 2 for a, b in zip(mine, others, strict=True)) / 25
    assert similarity_loss(STUDENT, TEACHER).item() == pytest.approx(expected)


def test_the_relational_loss_is_that_of_the_paper() -> None:
    (distances, angles), (others, other_angles) = by_hand(STUDENT), by_hand(TEACHER)
    of_distances = sum(huber(a - b) for a, b in zip(distances, others, strict=True)) / 25
    of_angles = sum(huber(a - b) for a, b in zip(angles, other_angles, strict=True)) / 125
    assert relational_loss(STUDENT, TEACHER).item() == pytest.approx(25 * of_distances + 50 * of_angles)


@pytest.mark.parametrize("loss", [similarity_loss, relational_loss])
def test_relations_are_the_same_for_features_that_are_turned_and_scaled(loss: object) -> None:
    turned, _ = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64))
    assert loss(3 * TEACHER @ turned, TEACHER).item() == pytest.approx(0, abs=1e-12)  # type: ignore[operator]


@pytest.mark.parametrize("loss", [similarity_loss, relational_loss])
@pytest.mark.parametrize("features", [torch.zeros(4, 3), torch.ones(4, 3), torch.eye(4)[[0, 0, 1, 1]]])
def test_equal_features_give_finite_gradients(loss: object, features: Tensor) -> None:
    student = features.clone().requires_grad_()
    loss(student, TEACHER[:4].float()).backward()  # type: ignore[operator]
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 1e3


def test_features_are_the_inputs_of_the_linear_layer_that_runs_last() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    model.add_module("unused", nn.Identity())
    images = torch.randn(6, 1, 2, 2)
    outputs, features = WithFeatures(model, images, "the network")(images)
    assert torch.equal(outputs, model(images))
    assert torch.equal(features, model[:3](images))
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("kind", ["similarity", "relational"])
@pytest.mark.parametrize("lacking", ["network", "teacher"])
def test_a_network_without_a_linear_layer_is_refused_before_training(
    few: ClassificationTask, kind: Distillation, lacking: str
) -> None:
    plain = nn.Sequential(nn.Conv2d(1, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    models = (plain, network(4)) if lacking == "network" else (network(4), plain)
    with pytest.raises(ValueError, match=f"^the {lacking} has no linear layer.*--distillation soft-targets"):
        check_training(models[0], few, RecoveryConfig(epochs=1, distillation=kind), models[1])


@pytest.mark.parametrize("kind", ["soft-targets", "logits", "similarity", "relational"])
def test_the_chosen_loss_is_added_to_that_of_the_labels_with_its_weight(
    few: ClassificationTask, kind: Distillation
) -> None:
    student, teacher = network(4), network(6, seed=1)
    config = RecoveryConfig(
        epochs=1, distillation=kind, distillation_weight=0.25, temperature=2.0, precision="fp32"
    )
    inputs, targets = few.batch("train", torch.arange(16))
    outputs, answers = student(inputs), teacher(inputs)
    features = student[:-1](inputs), teacher[:-1](inputs)
    expected = {
        "soft-targets": lambda: distillation_loss(outputs, answers, 2.0),
        "logits": lambda: F.mse_loss(outputs, answers),
        "similarity": lambda: 3000 * similarity_loss(*features),
        "relational": lambda: relational_loss(*features),
    }[kind]()
    if kind in ("similarity", "relational"):
        student, teacher = (WithFeatures(model, inputs, "it") for model in (student, teacher))
    loss = StepLoss(few, teacher, config)(student, inputs, targets)
    torch.testing.assert_close(loss, 0.75 * few.loss(outputs, targets) + 0.25 * expected)


@pytest.mark.parametrize("kind", ["similarity", "relational"])
def test_a_narrower_student_learns_the_relations_of_its_teacher(
    few: ClassificationTask, kind: Distillation
) -> None:
    student, teacher = network(6), network(8, seed=1)
    inputs, _ = few.batch("train", torch.arange(64))
    loss = {"similarity": similarity_loss, "relational": relational_loss}[kind]

    def distance() -> float:
        with torch.no_grad():
            return loss(student[:-1](inputs), teacher[:-1](inputs)).item()

    before = distance()
    config = RecoveryConfig(epochs=20, batch_size=32, distillation=kind, distillation_weight=1.0)
    finetune(student, few, config, teacher=teacher)
    assert distance() < 0.8 * before
    assert not any(module._forward_pre_hooks for module in student.modules())
