"""What a step promises: who decays, how long a gradient is, and what a batch in parts amounts to."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.recovery.averaging import averaged_model, copy_average, decay_after
from secateur.envs.recovery.batching import Batching
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.recovery.optimisation import largest_gradient, make_optimizer
from secateur.envs.recovery.training_check import check_training
from secateur.envs.recovery.training_state import TrainingState
from secateur.envs.tasks import ClassificationTask, TensorTask, measure
from secateur.envs.tasks.images.segmentation import SegmentationTask
from secateur.envs.tasks.images.splits import Split
from secateur.envs.tasks.metrics import R2, Accuracy


@pytest.fixture(scope="module")
def few(few: ClassificationTask) -> ClassificationTask:
    return dataclasses.replace(few, padding=0)


def take_step(state: TrainingState, loss: torch.Tensor) -> None:
    state.begin_step()
    state.add(loss)
    state.take_step()


def take_steps(state: TrainingState, model: nn.Module, steps: int) -> None:
    for _ in range(steps):
        take_step(state, model(torch.ones(1, 3)).sum())


def plain(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))


def tensors(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_only_weights_of_convolutions_and_linear_layers_decay(optimiser: Any) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.PReLU(), nn.LayerNorm((4, 6, 6)), nn.GroupNorm(2, 4),
        nn.Flatten(), nn.Linear(144, 10),
    )  # fmt: skip
    model.append(model[6])  # a shared layer is optimised once
    model[6].bias.requires_grad_(False)
    groups = make_optimizer(model, RecoveryConfig(optimiser=optimiser, weight_decay=0.25)).param_groups
    names = {id(value): name for name, value in model.named_parameters()}
    decays = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert {name for name, decay in decays.items() if decay == 0.25} == {"0.weight", "6.weight"}
    assert {name for name, decay in decays.items() if decay == 0} == {
        "0.bias", "1.weight", "1.bias", "2.weight", "3.weight", "3.bias", "4.weight", "4.bias",
    }  # fmt: skip
    assert sum(len(group["params"]) for group in groups) == len(decays)


def gradient_after(max_norm: float | None, scale: float) -> Tensor:
    model = nn.Linear(3, 1, bias=False)
    config = RecoveryConfig(max_grad_norm=max_norm, weight_decay=0.0)
    take_step(TrainingState(model, config, 10, 0), scale * model(torch.tensor([[1.0, 2.0, 2.0]])).sum())
    assert model.weight.grad is not None
    return model.weight.grad


def test_a_gradient_that_is_too_long_is_scaled_down_to_the_largest_norm() -> None:
    assert gradient_after(1.5, scale=1.0).norm().item() == pytest.approx(1.5, rel=1e-5)
    torch.testing.assert_close(gradient_after(1.5, 1.0) * 2, gradient_after(None, 1.0), rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient_after(1.5, 0.1), gradient_after(None, 0.1))


@pytest.mark.parametrize("passes", [2, 4])
def test_accumulation_amounts_to_the_larger_batch(few: ClassificationTask, passes: int) -> None:
    common = {"epochs": 2, "distillation_weight": 0.0, "precision": "fp32"}
    whole, parts = plain(), plain()
    losses = [
        finetune(model, few, RecoveryConfig(batch_size=size, accumulation_steps=count, **common)).losses  # type: ignore[arg-type]
        for model, size, count in ((whole, 48, 1), (parts, 48 // passes, passes))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for one, other in zip(tensors(whole), tensors(parts), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_few_images_make_passes_smaller_not_steps_fewer(few: ClassificationTask) -> None:
    def batching(**options: Any) -> Batching:
        return Batching.of(few, RecoveryConfig(**options))

    assert batching(batch_size=64) == Batching(64, 1, 3)
    assert batching(batch_size=64, accumulation_steps=2) == Batching(50, 2, 2)
    assert batching(batch_size=128) == Batching(100, 1, 2)
    assert batching(batch_size=64, accumulation_steps=5) == Batching(40, 5, 1)
    assert batching(batch_size=512) == Batching(200, 1, 1)
    assert batching(accumulation_steps=500) == Batching(1, 200, 1)


def test_the_average_is_the_one_by_hand_and_copies_what_is_no_number() -> None:
    model = nn.BatchNorm1d(1)
    average = averaged_model(model, 0.5)
    copy_average(average, model)  # of nothing, which changes nothing
    assert model.weight.item() == 1
    expected = 0.0
    for step, value in enumerate((3.0, 5.0, 4.0, 8.0)):
        nn.init.constant_(model.weight, value)
        model.running_mean.fill_(10 * value)  # type: ignore[union-attr]
        model.num_batches_tracked.fill_(7 + step)  # type: ignore[union-attr]
        average.update_parameters(model)
        decay = 0.0 if step == 0 else min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    copy_average(average, model)
    assert model.weight.item() == pytest.approx(expected)
    assert model.running_mean.item() == pytest.approx(10 * expected)  # type: ignore[union-attr]
    assert model.num_batches_tracked.item() == 10  # type: ignore[union-attr]


def test_the_decay_grows_with_the_steps_up_to_its_limit() -> None:
    assert [decay_after(steps, 0.9) for steps in (1, 8, 80, 1000)] == pytest.approx([2 / 11, 0.5, 0.9, 0.9])


def test_the_averaged_weights_are_kept_after_the_last_epoch(few: ClassificationTask) -> None:
    seen: list[list[Tensor]] = []
    model = plain()
    config = RecoveryConfig(epochs=2, batch_size=64, ema_decay=0.8)
    finetune(model, few, config, on_step=lambda _: seen.append([p.clone() for p in model.parameters()]))
    expected = seen[0]
    for step, weights in enumerate(seen[1:], start=1):
        decay = min(0.8, (1 + step) / (10 + step))
        pairs = zip(expected, weights, strict=True)
        expected = [decay * average + (1 - decay) * weight for average, weight in pairs]
    for mine, right in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(mine.detach(), right.detach())


def smoothed(task: Any, outputs: Tensor, targets: Tensor) -> Tensor:
    return task.smoothed_loss(outputs, targets, 0.1)  # type: ignore[no-any-return]


def test_label_smoothing_is_torchs(few: ClassificationTask) -> None:
    outputs, targets = torch.randn(6, 10), torch.arange(6)
    expected = F.cross_entropy(outputs, targets, label_smoothing=0.1)
    assert torch.equal(smoothed(few, outputs, targets), expected)
    pairs = {split: (torch.rand(20, 1, 4, 4), torch.arange(20) % 10) for split in ("train", "val", "test")}
    own = TensorTask(**pairs, loss=F.cross_entropy, metric=Accuracy())  # type: ignore[arg-type]
    assert torch.equal(smoothed(own, outputs, targets), expected)


def test_label_smoothing_leaves_ignored_pixels_out_and_weighs_classes() -> None:
    masks = torch.tensor([[[0, 1], [2, 255]]], dtype=torch.uint8)
    split = Split.held(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), masks)
    task = SegmentationTask(
        "masks", dict.fromkeys(("train", "val", "test"), split), ("a", "b", "c"), (0.0,) * 3, (1.0,) * 3,
        class_weights=(1.0, 2.0, 3.0),
    )  # fmt: skip
    outputs, targets = torch.randn(1, 3, 2, 2), masks.long()
    expected = F.cross_entropy(
        outputs, targets, torch.tensor([1.0, 2.0, 3.0]), ignore_index=255, label_smoothing=0.1
    )
    torch.testing.assert_close(smoothed(task, outputs, targets), expected)


def test_training_with_label_smoothing_has_its_loss(few: ClassificationTask) -> None:
    first: list[float] = []
    config = RecoveryConfig(
        epochs=1, batch_size=200, label_smoothing=0.3, distillation_weight=0.0, precision="fp32"
    )
    finetune(plain(), few, config, on_step=lambda progress: first.append(progress.loss))
    inputs, targets = few.batch("train", torch.arange(200))
    expected = F.cross_entropy(plain()(inputs), targets, label_smoothing=0.3).item()
    assert first == pytest.approx([expected], rel=1e-5)


def test_label_smoothing_without_classes_is_refused_before_training() -> None:
    pairs = {split: (torch.rand(20, 1, 8, 8), torch.rand(20, 10)) for split in ("train", "val", "test")}
    task = TensorTask(**pairs, loss=F.mse_loss, metric=R2(), name="numbers")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^label smoothing is for cross-entropy .*, and numbers has a loss"):
        check_training(plain(), task, RecoveryConfig(label_smoothing=0.1), None)


def test_half_precision_scales_the_loss_and_leaves_out_steps_whose_gradient_is_infinite() -> None:
    model = nn.Linear(3, 1, bias=False)
    state = TrainingState(model, RecoveryConfig(precision="fp16", weight_decay=0.0), 10, 0)
    before = model.weight.detach().clone()
    take_step(state, 1e34 * model(torch.ones(1, 3)).sum())  # finite, but not 65,536 times as much
    assert torch.equal(model.weight, before)
    scale = state.snapshot()["scaler"]["scale"]
    assert scale == 2**15
    take_step(state, model(torch.ones(1, 3)).sum())
    assert not torch.equal(model.weight, before)


def test_half_precision_gives_up_when_no_scale_is_small_enough() -> None:
    model = nn.Linear(3, 1, bias=False)
    state = TrainingState(model, RecoveryConfig(precision="fp16"), 100, 0)
    model.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(FloatingPointError, match="the norm of the gradient became"):
        take_steps(state, model, 30)


@pytest.mark.parametrize("precision", ["auto", "bf16", "fp16", "fp32"])
def test_every_precision_trains(few: ClassificationTask, precision: Any) -> None:
    model = plain()
    seen: set[torch.dtype] = set()
    model[0].register_forward_hook(lambda module, given, outputs: seen.add(outputs.dtype))
    losses = finetune(
        model, few, RecoveryConfig(epochs=4, batch_size=32, precision=precision, learning_rate=0.1)
    ).losses
    assert losses[-1] < losses[0]
    wanted = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    if precision != "auto":
        assert wanted[precision] in seen


NORM = partial(nn.BatchNorm1d, 4)


@pytest.mark.parametrize(
    ("given", "norm", "expected"),
    [(None, nn.Identity, 5.0), (None, NORM, None), (2.0, NORM, 2.0), (2.0, nn.Identity, 2.0)],
)
def test_gradients_are_clipped_by_default_where_no_norm_bounds_them(
    given: float | None, norm: Callable[[], nn.Module], expected: float | None
) -> None:
    model = nn.Sequential(nn.Linear(3, 4), norm(), nn.Linear(4, 2))
    assert largest_gradient(model, RecoveryConfig(max_grad_norm=given)) == expected


def test_a_recovery_without_norms_does_not_diverge_at_a_loss_that_is_large() -> None:
    inputs = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
    pair = (inputs, 100 * inputs[:, :1])
    task = TensorTask(train=pair, val=pair, test=pair, loss=F.mse_loss, metric=R2())
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    before = measure(model, task, "val").loss
    with pytest.raises(FloatingPointError):
        finetune(copy.deepcopy(model), task, RecoveryConfig(epochs=2, batch_size=16, max_grad_norm=1e9))
    finetune(model, task, RecoveryConfig(epochs=2, batch_size=16))
    assert measure(model, task, "val").loss < before
