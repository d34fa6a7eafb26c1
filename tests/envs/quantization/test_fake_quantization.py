"""Fake quantisation: networks compute with what int8 can hold, train so, and go on where they stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from secateur.envs.modules.copying import replica
from secateur.envs.quantization import (
    calibrate,
    fake_quantize_,
    float_notes,
    integer_network,
    load_ranges,
    quantize_,
    ranges_of,
    remove_fake_quantization,
    save_ranges,
    set_ranges,
)
from secateur.envs.quantization.fake import ActivationRange, fake_quantize_weight
from secateur.envs.quantization.places import Place, find_places
from secateur.envs.recovery.callbacks import Progress
from secateur.envs.recovery.checkpoint import Checkpoint, Stopped
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.sparsity import apply_masks, keep_masks
from secateur.envs.tasks import ClassificationTask, get_task
from support.quantized import residual

CONFIG = RecoveryConfig(epochs=2, batch_size=50, distillation_weight=0.0)


@pytest.fixture(scope="module")
def few() -> ClassificationTask:
    digits = get_task("digits", root=Path())
    train = digits.splits["train"].take(torch.arange(0, 1000, 5))
    return dataclasses.replace(digits, splits={**digits.splits, "train": train})


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (5, 40), (3, 1000)])
def test_a_filter_has_at_most_255_values_with_zero_in_the_middle(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape)
    rounded = fake_quantize_weight(weight)
    assert all(len(one.unique()) <= 255 for one in rounded)
    steps = weight.abs().flatten(1).amax(1) / 127
    assert ((rounded - weight).abs().flatten(1).amax(1) <= 0.501 * steps).all()
    assert torch.equal(fake_quantize_weight(-weight), -rounded)
    torch.testing.assert_close(fake_quantize_weight(rounded), rounded)


def test_zeros_stay_zeros_and_a_silent_filter_is_no_division_by_zero() -> None:
    weight = torch.randn(4, 30)
    weight[1] = 0.0
    weight[2, :10] = 0.0
    rounded = fake_quantize_weight(weight)
    assert rounded.isfinite().all()
    assert not rounded[weight == 0].any()


def test_batch_norm_multiplies_the_scale_alone_so_it_is_folded_into_the_same_whole_numbers() -> None:
    weight, factor = torch.randn(16, 8, 3, 3), torch.randn(16, 1, 1, 1)
    torch.testing.assert_close(fake_quantize_weight(weight * factor), fake_quantize_weight(weight) * factor)


def test_a_tensor_has_at_most_256_values_between_the_ends_of_its_range() -> None:
    rounding = ActivationRange().eval()
    rounding.low.fill_(-1.0)
    rounding.high.fill_(3.0)
    x = torch.linspace(-2, 5, 5000)
    y = rounding(x)
    assert len(y.unique()) == 256
    assert ((y - x.clamp(y.min(), y.max())).abs() <= 0.501 * 4 / 255).all()
    assert rounding(torch.zeros(1)).item() == 0


def test_rounding_before_a_relu_is_rounding_after_it_if_nothing_else_reads_the_tensor() -> None:
    x = torch.randn(1000)
    before, after = ActivationRange(rectified=True), ActivationRange()
    before.calibration_batches = after.calibration_batches = 0
    before(x), after(x.relu())
    before.calibration_batches = after.calibration_batches = None
    torch.testing.assert_close(before.eval()(x).relu(), after.eval()(x.relu()))


def test_a_range_follows_the_tensor_in_training_and_stays_in_evaluation() -> None:
    rounding, x = ActivationRange(), torch.tensor([-2.0, 4.0])
    for _ in range(1000):
        rounding(x)
    assert rounding.low.item() == pytest.approx(-2, abs=1e-3)
    assert rounding.high.item() == pytest.approx(4, abs=1e-3)
    before = rounding.high.clone()
    rounding.eval()(10 * x)
    assert torch.equal(rounding.high, before)


def test_outputs_are_rounded_where_they_do_not_enter_a_layer_at_once() -> None:
    assert find_places(residual(), torch.zeros(2, 1, 8, 8)) == {
        "stem": Place("bn0", rounds_output=True, rectified=True),  # its ReLU is read by the shortcut, too
        "conv1": Place("bn1", rounds_output=False, rectified=True),
        "conv2": Place("bn2", rounds_output=True, rectified=False),
        "head": Place(),
    }


def test_a_batch_norm_that_reads_two_convolutions_is_not_folded() -> None:
    shared = nn.BatchNorm2d(4)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), shared, nn.Conv2d(4, 4, 1), shared).eval()
    assert [place.norm for place in find_places(model, torch.zeros(2, 1, 8, 8)).values()] == [None, None]


def test_a_quantised_network_answers_nearly_as_before_and_exactly_so_after_removal(
    few: ClassificationTask,
) -> None:
    model = residual()
    x, _ = few.batch("val", torch.arange(50))
    before = model(x)
    names = {name for name, _ in model.named_parameters()}
    quantize_(model, few)
    assert {name for name, _ in model.named_parameters()} == names
    difference = (model(x) - before).abs().max()
    assert 0 < difference < 0.05 * before.abs().max()
    remove_fake_quantization(model)
    assert torch.equal(model(x), before)
    assert not ranges_of(model)


def test_a_copy_has_ranges_of_its_own(few: ClassificationTask) -> None:
    model = quantize_(residual(), few)
    copied, x = replica(model), torch.randn(4, 1, 8, 8)
    before = model(x)
    for module in copied.modules():
        if isinstance(module, ActivationRange):
            module.high.fill_(0.1)
    assert torch.equal(model(x), before)
    assert not torch.equal(copied(x), before)


def test_a_network_learns_under_quantisation_and_its_ranges_follow(few: ClassificationTask) -> None:
    model = quantize_(residual().train(), few)
    before = ranges_of(model)
    config = dataclasses.replace(CONFIG, epochs=8, batch_size=20, learning_rate=0.2)
    losses = finetune(model, few, config).losses
    assert losses[-1] < 0.8 * losses[0]
    assert all(ranges_of(model)[name] != before[name] for name in ("conv1", "conv2", "head"))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_resumed_training_has_the_same_ranges_and_weights_bit_for_bit(
    few: ClassificationTask, tmp_path: Path, ema: float
) -> None:
    config = dataclasses.replace(CONFIG, ema_decay=ema)
    whole = quantize_(residual(), few)
    finetune(whole, few, config)

    def stop(progress: Progress) -> None:
        if progress.finished_steps == 5:
            raise Stopped

    first = quantize_(residual(), few)
    with pytest.raises(Stopped):
        finetune(first, few, config, checkpoint=Checkpoint(tmp_path / "state"), on_step=stop)
    resumed = quantize_(residual(), few)
    finetune(resumed, few, config, checkpoint=Checkpoint(tmp_path / "state"))
    expected = whole.state_dict()
    assert any(name.endswith("input_range.high") for name in expected)
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())


def test_masked_weights_train_under_quantisation_and_stay_zero(few: ClassificationTask) -> None:
    model = residual()
    prune.l1_unstructured(model.conv1, "weight", amount=0.5)
    quantize_(model, few)
    apply_masks(model, {"conv2.weight": torch.rand(8, 12, 3, 3) < 0.5})
    finetune(model, few, CONFIG)
    masks = keep_masks(model)
    assert set(masks) == {"conv1.weight", "conv2.weight"}
    assert not model.conv1.weight[~masks["conv1.weight"]].any()
    assert not fake_quantize_weight(model.conv2.weight)[~masks["conv2.weight"]].any()


def test_ranges_survive_their_file(few: ClassificationTask, tmp_path: Path) -> None:
    model = quantize_(residual(), few)
    save_ranges(ranges_of(model), tmp_path)
    other = fake_quantize_(remove_fake_quantization(replica(model)), torch.zeros(2, 1, 8, 8))
    loaded = load_ranges(tmp_path)
    assert loaded is not None
    set_ranges(other, loaded)
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(other(x), model(x))


def test_a_second_calibration_forgets_the_first(few: ClassificationTask) -> None:
    model = quantize_(residual(), few)
    before = ranges_of(model)
    calibrate(model, few, images=50, seed=3)
    assert ranges_of(model) != before
    calibrate(model, few)
    assert ranges_of(model) == before


def test_wrong_uses_are_refused_in_a_sentence(few: ClassificationTask, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no plain nn\.Conv1d, nn\.Conv2d or nn\.Linear"):
        quantize_(nn.Sequential(nn.Flatten(), nn.ReLU()), few)
    model = quantize_(residual(), few)
    ranges = ranges_of(model)
    del ranges["conv2"]["output"]
    with pytest.raises(ValueError, match=r"the output of conv2 is in only one of them \(1 differ\)"):
        set_ranges(model, ranges)
    assert load_ranges(tmp_path) is None
    two_ends = "each layer's input needs a lower and an upper end"
    for text, why in (
        ("{", "Expecting property name"),
        ('{"conv1": 3}', two_ends),
        ('{"conv1": {"input": [0, 1e999]}}', two_ends),
        ('{"conv1": {"input": [0]}}', two_ends),
        ('{"conv1": {"input": [2, -2]}}', two_ends),
        ('{"conv1": {"input": [0, 1e39]}}', two_ends),
        ("[]", two_ends),
    ):
        (tmp_path / "int8.json").write_text(text)
        with pytest.raises(ValueError, match=rf"int8\.json does not hold ranges: {why}"):
            load_ranges(tmp_path)


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_layers_with_parametrisations_are_rounded_train_and_come_back(
    norm: Callable[[nn.Module], nn.Module], few: ClassificationTask
) -> None:
    model = residual()
    norm(model.conv1)
    norm(model.head)
    names = list(model.state_dict())
    quantize_(model, few)
    assert set(ranges_of(model)) == {"stem", "conv1", "conv2", "head"}
    assert float_notes(model) == ()
    copied = replica(model)
    before = copied.conv1.weight.detach().clone()
    finetune(copied, few, CONFIG)
    assert not torch.equal(copied.conv1.weight, before)
    assert torch.equal(model.conv1.weight, before)
    integer = integer_network(copied, "torch").conv1.integer_weight
    assert integer.values.dtype == torch.int8
    remove_fake_quantization(copied)
    assert [name for name in copied.state_dict() if "range" not in name] == names
    x, _ = few.batch("test", torch.arange(4))
    plain = residual()
    norm(plain.conv1)
    norm(plain.head)
    plain.load_state_dict(copied.state_dict())
    torch.testing.assert_close(plain.eval()(x), copied.eval()(x))
    assert set(ranges_of(model)) == {"stem", "conv1", "conv2", "head"}


def test_layers_that_stay_in_float_are_named(few: ClassificationTask) -> None:
    class Own(nn.Conv2d):
        pass

    model = nn.Sequential(Own(1, 4, 3), nn.ConvTranspose2d(4, 4, 3), nn.Flatten(), nn.Linear(256, 10)).eval()
    parametrizations.weight_norm(model[1])
    (note,) = float_notes(quantize_(model, few))
    assert note.startswith("2 layers stay in float (0, 1): int8 is for plain nn.Conv1d, nn.Conv2d and")
