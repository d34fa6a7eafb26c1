"""Labels and targets that do not fit the loss are told before the search, in one line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.tasks import (
    R2,
    Accuracy,
    LoaderTask,
    MeanIoU,
    SegmentationTask,
    SplitName,
    TensorTask,
    measure,
)
from secateur.envs.tasks.ignored_labels import count_classes, labels_in
from secateur.envs.tasks.images.splits import Split
from secateur.envs.tasks.optional_members import distill
from secateur.envs.tasks.user_task import check_answers, check_task

COUNT = 300


class Pixels(nn.Module):
    """Give scores (B, K, H, W) for each pixel, or (B, K) for each image."""

    def __init__(self, outputs: int, dense: bool = False) -> None:
        super().__init__()
        self.conv, self.dense = nn.Conv2d(1, outputs, 1), dense

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.conv(x)
        return scores if self.dense else scores.mean((2, 3))


def task_of(*, train: Any = None, val: Any = None, make: Any = TensorTask, **settings: Any) -> Any:
    def part(targets: Any) -> tuple[Tensor, Tensor]:
        return torch.rand(len(targets), 1, 4, 4), targets

    good = torch.arange(COUNT) % 3 if settings.pop("good", None) is None else torch.rand(COUNT, 1)
    splits = {
        name: part(good if given is None else given)
        for name, given in (("train", train), ("val", val), ("test", None))
    }
    return make(**splits, **{"loss": F.cross_entropy, "metric": Accuracy(), **settings})


def streamed(**splits: Any) -> LoaderTask:
    data = {name: list(zip(*splits.pop(name), strict=True)) for name in ("train", "val", "test")}
    return LoaderTask(**data, in_memory="never", workers=0, **splits)


def labels(**changed: int) -> Tensor:
    found = torch.arange(COUNT) % 3
    for place, label in changed.items():
        found[int(place[1:])] = label
    return found


REGRESSION = {"good": 1, "metric": R2(), "loss": F.mse_loss}
UNDEFINED = torch.full((COUNT, 1), torch.nan)


@pytest.mark.parametrize(
    ("settings", "outputs", "message"),
    [
        (
            {"train": labels(_151=3), "num_outputs": 3},
            3,
            "train of own data has the label 3, and the network 3",
        ),
        ({"val": labels(_299=-1)}, 3, "val of own data has the label -1, .* outputs: labels are 0 to 2"),
        ({"val": labels(_1=255), "num_outputs": 3}, 3, "val of own data has the label 255"),
        (
            {"train": torch.full((COUNT,), -100), "num_outputs": 3},
            3,
            "train of own data has no label but -100, which the loss ignores; give labels from 0 to 2",
        ),
        (
            REGRESSION | {"val": UNDEFINED},
            1,
            "example 0 of val of own data has targets that are infinite or un",
        ),
        (
            {"train": torch.zeros(COUNT), "good": 1},
            3,
            r"one float32 for each .*, give whole numbers: y\.long\(\)",
        ),
    ],
)
def test_labels_and_targets_that_do_not_fit_are_named(
    settings: dict[str, Any], outputs: int, message: str
) -> None:
    model = Pixels(outputs)
    task = task_of(**settings)
    check_task(task)
    with pytest.raises(ValueError, match=message) as caught:
        check_answers(model, task)
    assert "\n" not in str(caught.value)


def test_a_label_beyond_the_networks_outputs_is_named_with_its_part() -> None:
    part, test = ((torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 2, last])) for last in (3, 4))
    task = TensorTask(train=part, val=part, test=test, loss=F.cross_entropy, metric=Accuracy())
    said = r"shape \(5,\) per example, as test has the label 4, the network .* \(4,\)"
    with pytest.raises(ValueError, match=said):
        task.loss(torch.zeros(4, 4), part[1])


def test_outputs_without_an_axis_of_classes_are_described_too() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) per example, the network returns \(\): give a network"):
        task_of(num_outputs=3).loss(torch.zeros(4), torch.tensor([0, 1, 2, 0]))


def test_streamed_examples_may_have_labels_that_were_not_looked_at() -> None:
    mostly = torch.full((COUNT,), -100)
    task = task_of(train=mostly, make=streamed, num_outputs=3)
    assert check_answers(Pixels(3), task) == ()


def test_outputs_of_another_shape_than_numbers_get_advice_that_helps() -> None:
    part = (torch.rand(4, 1, 4, 4), torch.zeros(4, 8, dtype=torch.int64))
    task = TensorTask(train=part, val=part, test=part, loss=F.cross_entropy, metric=Accuracy(), num_outputs=2)
    said = r"shape \(8,\) per example, .* \(8, 2\): give .* or a task of your own"
    with pytest.raises(ValueError, match=said):
        task.loss(torch.zeros(4, 8, 2), part[1])


def test_labels_of_streamed_examples_are_looked_at_too() -> None:
    wrong = labels(_299=7)  # the last one, as folders are sorted by class
    with pytest.raises(ValueError, match="val of own data has the label 7"):
        check_answers(Pixels(3), task_of(val=wrong, make=streamed, num_outputs=3))
    with pytest.raises(ValueError, match="example 0 of train of own data has inputs that are infinite"):
        check_answers(Pixels(3), endless())


def endless() -> LoaderTask:
    good = [(torch.rand(1, 4, 4), k % 3) for k in range(12)]
    bad = [(image / 0, label) for image, label in good]
    return LoaderTask(train=bad, val=good, test=good, loss=F.cross_entropy, metric=Accuracy())


@pytest.mark.parametrize("ignored", [-100, 255, 3])
def test_labels_that_the_loss_ignores_are_allowed_and_not_counted(ignored: int) -> None:
    loss = nn.CrossEntropyLoss(ignore_index=ignored)
    task = task_of(train=labels(_5=ignored, _9=ignored), val=labels(_0=ignored), loss=loss)
    assert task.num_outputs == 3
    assert check_answers(Pixels(3), task) == ()
    outputs, targets = torch.eye(3)[[0, 1, 1]], torch.tensor([0, ignored, 2])
    assert task.metric(task.statistics(outputs, targets)) == 50.0


def test_a_loss_that_fails_on_a_proper_label_is_named() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs[:, targets].mean() / (targets != 2).all()

    with pytest.raises(ValueError, match="own data is infinite or undefined on the label 2 of train"):
        check_answers(Pixels(3), task_of(loss=loss))


def test_segmentation_tasks_are_checked_too() -> None:
    def split(wrong: int) -> Split:
        masks = torch.randint(0, 3, (8, 4, 4), dtype=torch.uint8)
        masks[6, 0, 1] = wrong
        return Split.held(torch.zeros(8, 1, 4, 4, dtype=torch.uint8), masks)

    def task(wrong: int) -> SegmentationTask:
        splits: Any = {"train": split(0), "val": split(wrong), "test": split(0)}
        return SegmentationTask("scenes", splits, ("a", "b", "c"), mean=(0.0,), std=(1.0,))

    check_answers(Pixels(3, dense=True), task(255))
    with pytest.raises(ValueError, match="val of scenes has the label 4, and the network 3 outputs"):
        check_answers(Pixels(3, dense=True), task(4))


def dense(make: Callable[..., Any] = TensorTask, dtype: torch.dtype = torch.uint8, **settings: Any) -> Any:
    def split(seed: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(seed)
        masks = torch.randint(0, 3, (20, 4, 4), generator=draw)
        masks[:, 0] = settings.get("ignored", 255)
        return masks[:, None] / 4.0, masks.to(dtype)

    given = {name: split(k) for k, name in enumerate(("train", "val", "test"))}
    chosen = {
        "loss": nn.CrossEntropyLoss(ignore_index=settings.pop("ignored", 255)),
        "metric": MeanIoU(),
        **settings,
    }
    return make(**given, **chosen)


@pytest.mark.parametrize("make", [TensorTask, streamed])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_masks_are_classes_of_pixels(make: Any, dtype: torch.dtype) -> None:
    task = dense(make, dtype)
    assert task.num_outputs == 3
    model = Pixels(3, dense=True)
    check_task(task)
    assert check_answers(model, task) == ()
    measured = measure(model, task, "val", by_example=True)
    assert list(measured.details) == ["0", "1", "2"]
    assert measured.example_statistics is not None
    inputs, masks = task.batch("val", torch.arange(4))
    assert masks.dtype == torch.int64
    assert task.statistics(model(inputs), masks).sum() == 4 * 3 * 4  # the first row is ignored
    student, teacher = torch.randn(2, 4, 3, 4, 4)
    torch.testing.assert_close(distill(task, student, teacher, 2.0), distill(task, student + 1, teacher, 2.0))
    with pytest.raises(ValueError, match=r"expects outputs of the shape \(3, 4, 4\) per example"):
        task.loss(model(inputs)[..., :2], masks)


def test_bool_targets_for_two_outputs_are_named() -> None:
    part = (torch.zeros(4, 3, 8, 8), torch.tensor([True, False, True, False]))
    task = TensorTask(train=part, val=part, test=part, loss=F.cross_entropy, metric=Accuracy())
    with pytest.raises(ValueError, match=r"for bool targets as two classes give targets\.long\(\)"):
        task.loss(torch.zeros(4, 2), task.batch("train", torch.arange(4))[1])


def test_masks_in_memory_are_not_copied() -> None:
    images, masks = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4, 8, 8, dtype=torch.uint8)
    part = (images, masks)
    task = TensorTask(train=part, val=part, test=part, loss=F.cross_entropy, metric=MeanIoU())
    held = task._sources["train"]
    assert (held.inputs.data_ptr(), held.labels.data_ptr()) == (images.data_ptr(), masks.data_ptr())
    assert task.to("cpu")._sources["train"].labels.data_ptr() == masks.data_ptr()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int64])
def test_labels_of_any_whole_type_are_counted_alike(dtype: torch.dtype) -> None:
    labels = torch.arange(20).expand(2, 3, 20)
    outputs = F.one_hot(labels, 200).movedim(-1, 1).float()
    assert MeanIoU().value(MeanIoU().statistics(outputs, labels.to(dtype))) == 100.0
    assert Accuracy().value(Accuracy().statistics(outputs, labels.to(dtype))) == 100.0


def test_bytes_are_no_negative_label() -> None:
    outputs = F.one_hot(torch.tensor([[156]]), 200).movedim(-1, 1).float()
    label = torch.tensor([[156]], dtype=torch.uint8)  # -100, if it wraps around
    assert Accuracy(ignore_label=-100).statistics(outputs, label).tolist() == [1, 1]
    assert int(MeanIoU(ignore_label=-100).statistics(outputs, label).sum()) == 1


def test_the_mean_iou_is_that_of_the_classes_that_occur() -> None:
    metric = MeanIoU(classes=("sky", "road", "car"))
    true = torch.tensor([[[0, 0, 1, 255]]])
    predicted = F.one_hot(torch.tensor([[[0, 1, 1, 2]]]), 3).permute(0, 3, 1, 2).float()
    statistics = metric.statistics(predicted, true)
    assert metric.details(statistics) == {"sky": 50.0, "road": 50.0, "car": None}
    assert metric.value(statistics) == 50.0
    assert MeanIoU(ignore_label=0).value(metric.statistics(predicted, true)) == 50.0
    assert Accuracy().value(Accuracy().statistics(predicted, true)) == pytest.approx(200 / 3)
    assert Accuracy(ignore_label=0).value(Accuracy(ignore_label=0).statistics(predicted, true)) == 100.0


def test_labels_are_found_and_ignored_ones_are_no_classes() -> None:
    masks = torch.tensor([[0, 7], [255, 2]], dtype=torch.uint8)
    assert labels_in(masks) == [0, 2, 7, 255]
    assert labels_in(masks.long() - 2) == [-2, 0, 5, 253]
    assert count_classes([masks], F.cross_entropy, 255) == 8
    assert count_classes([masks], partial(F.cross_entropy, ignore_index=255), None) == 8
    assert count_classes([masks], F.cross_entropy, None) == 256
    assert count_classes([torch.tensor([0, 1, 2, -100])], F.cross_entropy, None) == 3


SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@pytest.mark.parametrize("wrong", SPLITS)
@pytest.mark.parametrize("make", [TensorTask, partial(LoaderTask, in_memory="always", workers=0)])
def test_every_input_that_is_held_in_memory_has_to_be_finite(make: Any, wrong: SplitName) -> None:
    with pytest.raises(ValueError, match=f"example 1 of {wrong} of own data has inputs that are infinite"):
        check_answers(Pixels(3), with_one_undefined(make, wrong))


def test_a_streamed_test_is_refused_when_it_is_measured() -> None:
    make = partial(LoaderTask, in_memory="never", workers=0)
    model, task = Pixels(3), with_one_undefined(make, "test")
    assert check_answers(model, task) == ()  # it reads a few examples, and not that one
    assert measure(model, task, "val").images == COUNT
    with pytest.raises(ValueError, match="example 1 of test of own data has inputs that are infinite"):
        measure(model, task, "test")


def with_one_undefined(make: Any, wrong: SplitName) -> Any:
    """Make a task whose second example of one split has an undefined pixel; a look at a few skips it."""
    parts = {}
    for split in SPLITS:
        images = torch.rand(COUNT, 1, 4, 4)
        if split == wrong:
            images[1, 0, 2, 3] = torch.nan
        pair = images, labels()
        parts[split] = pair if make is TensorTask else list(zip(*pair, strict=True))
    return make(**parts, loss=F.cross_entropy, metric=Accuracy())
