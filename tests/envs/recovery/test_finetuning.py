"""What recovery promises: exact statistics, training that follows its seed, and no other traces."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.googlenet import GoogLeNetOutputs

from secateur.envs.models import get_model
from secateur.envs.modules.outputs import main_and_auxiliary
from secateur.envs.recovery.callbacks import Progress
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.recovery.schedules import learning_rate_factor
from secateur.envs.tasks import ClassificationTask, measure
from secateur.envs.tasks.optional_members import distillation_loss
from support.recovering import equal, small, weights


def test_the_demo_network_learns_digits_from_scratch(digits: ClassificationTask) -> None:
    torch.manual_seed(0)
    model = get_model("demo", num_classes=10, in_channels=1)
    finetune(model, digits, RecoveryConfig.from_scratch(12))
    assert measure(model, digits, "test").accuracy >= 98


def test_a_network_without_norms_is_trained_from_scratch_though_its_first_gradients_are_large(
    digits: ClassificationTask,
) -> None:
    recipe, found = RecoveryConfig.from_scratch(10), []
    for change in ({}, {"max_grad_norm": 1e9}):
        torch.manual_seed(0)
        layers = [nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)]
        model = nn.Sequential(nn.Flatten(), *layers)
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(6)
        finetune(model, digits, dataclasses.replace(recipe, **change))
        found.append(measure(model, digits, "test").accuracy)
    assert found[0] > 75 > 60 > found[1]


def test_training_follows_its_seed_and_leaves_torchs_own_generator_alone(few: ClassificationTask) -> None:
    found = []
    config = RecoveryConfig(epochs=2, batch_size=64)
    for seed in (0, 0, 1):
        model = small(dropout=0.5)
        torch.manual_seed(len(found))
        state = torch.get_rng_state()
        finetune(model, few, config, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        found.append(weights(model))
    assert equal(found[0], found[1])
    assert not equal(found[0], found[2])


def test_training_restores_modes_and_contiguous_weights_and_leaves_the_teacher_alone(
    few: ClassificationTask,
) -> None:
    model, teacher = small().eval(), small()
    before = weights(teacher)
    finetune(model, few, RecoveryConfig(epochs=1), teacher=teacher)
    assert not model.training
    assert teacher.training
    assert equal(weights(teacher), before)
    assert all(value.is_contiguous() for value in model.state_dict().values())


def test_no_epochs_leave_the_weights_as_they_are(few: ClassificationTask) -> None:
    model = small()
    before = weights(model)
    assert finetune(model, few, RecoveryConfig(epochs=0)).epochs == 0
    assert equal(weights(model), before)


@pytest.mark.parametrize("size", [2, 40, 200])
def test_any_number_of_training_images_can_be_trained_on(few: ClassificationTask, size: int) -> None:
    train = few.splits["train"].take(torch.arange(size))
    task = dataclasses.replace(few, splits={**few.splits, "train": train})
    seen: list[Progress] = []
    finetune(small(), task, RecoveryConfig(epochs=1, batch_size=64), on_step=seen.append)
    assert len(seen) == max(1, size // 64)


def test_momentum_zero_is_plain_sgd(few: ClassificationTask) -> None:
    model = small()
    before = weights(model)
    finetune(model, few, RecoveryConfig(epochs=1, momentum=0.0), seed=0)
    assert not equal(before, weights(model))


def test_progress_counts_epochs_and_steps(few: ClassificationTask) -> None:
    steps: list[Progress] = []
    epochs: list[Progress] = []
    config = RecoveryConfig(epochs=2, batch_size=50, learning_rate=0.1)
    summary = finetune(small(), few, config, on_step=steps.append, on_epoch=epochs.append)
    assert [(p.epoch, p.step) for p in steps] == [(e, s) for e in (1, 2) for s in (1, 2, 3, 4)]
    assert [p.epoch for p in epochs] == [1, 2]
    assert summary.losses == tuple(p.loss for p in epochs)
    assert epochs[0].loss == pytest.approx(sum(p.loss for p in steps[:4]) / 4)
    assert max(p.learning_rate for p in steps) == pytest.approx(0.1)
    assert all(p.images_per_second > 0 for p in steps)


def test_a_student_moves_towards_its_teacher(few: ClassificationTask) -> None:
    teacher, student = get_model("demo", num_classes=10, in_channels=1), small()
    finetune(teacher, few, dataclasses.replace(RecoveryConfig.from_scratch(10), batch_size=32))
    indices = torch.arange(200)

    def distance(model: nn.Module) -> float:
        inputs, _ = few.batch("train", indices)
        with torch.no_grad():
            return distillation_loss(model.eval()(inputs), teacher.eval()(inputs), 4.0).item()

    before = distance(student)
    config = RecoveryConfig(epochs=10, batch_size=32, distillation_weight=1.0)
    finetune(student, few, config, teacher=teacher)
    assert distance(student) < 0.3 * before


def test_weight_zero_turns_distillation_off(few: ClassificationTask) -> None:
    config = RecoveryConfig(epochs=1, batch_size=64, distillation_weight=0.0)
    alone, taught = small(), small()
    finetune(alone, few, config)
    finetune(taught, few, config, teacher=small(dropout=0.1))
    assert equal(weights(alone), weights(taught))


def test_the_distillation_loss_is_zero_for_equal_answers_and_has_the_gradient_of_matched_logits() -> None:
    torch.manual_seed(0)
    student = torch.randn(6, 10, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(6, 10, dtype=torch.float64)
    assert distillation_loss(teacher, teacher, 4.0).item() == pytest.approx(0)
    (gradient,) = torch.autograd.grad(distillation_loss(student, teacher, 4.0), student)
    # Hinton et al. 2015, eq. 2, times T^2 and averaged over the batch.
    torch.testing.assert_close(gradient, 4.0 * (F.softmax(student / 4, 1) - F.softmax(teacher / 4, 1)) / 6)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("weights", r"the loss became nan in epoch 1, step 1 of 2, first in the weights of 3: lower the"),
        ("output", r"the loss became nan in epoch 1, step 1 of 2, first in the output of 2: lower the"),
        ("gradient", r"gradient became nan in epoch 1, step 1 of 2, first in the gradient of 3: lower the"),
        ("target", r"the loss became nan in epoch 1, step 1 of 2, though every layer's weights and outputs"),
    ],
)
def test_a_diverged_training_says_where_and_leaves_the_network_as_it_was_before_the_step(
    few: ClassificationTask, kind: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small()
    if kind == "weights":
        with torch.no_grad():
            model[3].weight[0, 0, 0, 0] = math.nan
    elif kind == "output":
        model[2].register_forward_hook(lambda module, inputs, outputs: outputs / 0 - outputs / 0)
    elif kind == "gradient":
        model[3].weight.register_hook(lambda gradient: gradient * math.nan)
    else:
        monkeypatch.setattr(ClassificationTask, "loss", lambda *given: F.cross_entropy(*given[1:]) * math.nan)
    before = weights(model)
    with pytest.raises(FloatingPointError, match=message):
        finetune(model, few, RecoveryConfig(epochs=1))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, equal_nan=True)


def test_networks_that_view_their_feature_maps_can_be_trained(few: ClassificationTask) -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 1)
            self.linear = nn.Linear(192, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(self.conv(x).view(-1, 192))

    model = Views()
    before = weights(model)
    summary = finetune(model, few, RecoveryConfig(epochs=3), teacher=small())
    assert summary.losses[-1] < summary.losses[0]
    assert not torch.equal(model.conv.weight, before["conv.weight"])


@pytest.mark.parametrize("total", range(1, 12))
def test_the_cycle_rises_to_one_and_falls_for_any_length(total: int) -> None:
    rates = [learning_rate_factor(step, total, 0.2) for step in range(total)]
    peak = rates.index(max(rates))
    assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)
    assert all(0 < rate <= 1 for rate in rates)
    assert max(rates) == 1 or total == 1


def test_auxiliary_answers_are_told_from_the_main_one() -> None:
    main, first = torch.ones(2, 3), torch.zeros(2, 3)
    outputs, auxiliary = main_and_auxiliary(GoogLeNetOutputs(main, None, first))
    assert outputs is main
    assert len(auxiliary) == 1
    assert auxiliary[0] is first
    assert main_and_auxiliary(main) == (main, [])


NO_NUMBERS = ("optimiser", "schedule", "distillation", "precision", "quantize", "train_on_val", "compile")
NUMBERS = [field.name for field in dataclasses.fields(RecoveryConfig) if field.name not in NO_NUMBERS]


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": -1},
        {"batch_size": 1},
        {"learning_rate": 0.0},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"warmup": 1.0},
        {"max_grad_norm": 0.0},
        {"ema_decay": 1.0},
        {"accumulation_steps": 0},
        {"label_smoothing": 1.0},
        {"weight_decay": -1.0},
        {"distillation_weight": 1.5},
        {"distillation_weight": None},
        {"temperature": 0.0},
        {"batchnorm_images": -1},
        {"compensation_images": -1},
        *({name: odd} for name in NUMBERS for odd in (math.nan, math.inf)),
        {"epochs": 1.5},
    ],
)
def test_settings_out_of_range_are_refused_by_name(change: dict[str, float]) -> None:
    (name,) = change
    with pytest.raises(ValueError, match=rf"^{name} is .*; allowed is "):
        RecoveryConfig(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["adamm", math.nan, 3, None, ["sgd"]])
def test_an_unknown_optimiser_is_refused_with_those_there_are(given: object) -> None:
    with pytest.raises(ValueError, match=r"^there is no optimiser .*; give sgd, adamw$"):
        RecoveryConfig(optimiser=given)  # type: ignore[arg-type]
