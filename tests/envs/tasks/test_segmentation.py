"""Segmentation: folders of images and masks, what counts, and the whole job on networks of that kind."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from secateur.agent.cli import main
from secateur.envs.cost.counts import cost
from secateur.envs.models import get_model, list_models, predicts_pixels
from secateur.envs.modules.outputs import main_output
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import SegmentationTask, Split, load_segmentation, measure
from secateur.envs.tasks.draws import uniform
from secateur.envs.tasks.images.segmentation import balanced_weights, label_counts, random_views
from secateur.envs.tasks.user_task import check_answers, check_task

VOID = 255

NARROW = """
from secateur.envs.models.segnet import SegNet

def build(num_classes, in_channels):
    return SegNet(num_classes, in_channels, width=4)
"""


def write_folder(
    root: Path, parts: tuple[str, ...] = ("train", "val", "test"), count: int = 4, side: int = 32
) -> Path:
    """Write images whose left part is red (class 1), the rest green (class 0), with a rim of void."""
    generator = np.random.default_rng(0)
    for part in parts:
        for name in ("images", "masks"):
            (root / part / name).mkdir(parents=True)
        for k in range(count):
            edge = int(generator.integers(8, side - 8))
            pixels = generator.integers(0, 60, (side, side + 1, 3), dtype=np.uint8)
            pixels[:, :edge, 0] += 150
            pixels[:, edge:, 1] += 150
            mask = np.zeros((side, side + 1), np.uint8)
            mask[:, :edge] = 1
            mask[0] = VOID
            Image.fromarray(pixels).save(root / part / "images" / f"{k}.png")
            Image.fromarray(mask).save(root / part / "masks" / f"{k}.png")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def task(folder: Path) -> SegmentationTask:
    return load_segmentation(folder)


def toy(masks: Tensor, **changes: object) -> SegmentationTask:
    part = Split.held(torch.zeros(len(masks), 3, *masks.shape[1:], dtype=torch.uint8), masks)
    splits = dict.fromkeys(("train", "val", "test"), part)
    settings = {"mean": (0.0,) * 3, "std": (1.0,) * 3} | changes
    return SegmentationTask("toy", splits, ("a", "b", "c"), **settings)  # type: ignore[arg-type]


def scores(predicted: Tensor) -> Tensor:
    return 10.0 * F.one_hot(predicted, 3).movedim(-1, 1).float()


def test_a_folder_of_images_and_masks_is_pruned_end_to_end(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    data = ["--task", "segmentation", "--data", str(folder), "--balance-classes"]
    brief = ["--method", "l2-uniform", "--epochs", "1", "--dense-epochs", "1", "--out", str(out)]
    (tmp_path / "narrow.py").write_text(NARROW)
    monkeypatch.chdir(tmp_path)
    assert main(["prune", "narrow:build", *data, *brief]) == 0
    assert "test mean IoU of each" in capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    assert report["metric"] == "mean IoU"
    assert [row["name"] for row in report["details"]] == ["0", "1"]
    assert report["ratios"]["macs"] <= 0.5
    assert "Test mean IoU of each" in (out / "report.html").read_text()
    assert main(["evaluate", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == pytest.approx(report["pruned"]["accuracy"], abs=0.1)
    assert set(found["details"]) == {"0", "1"}


def test_segnet_has_the_parameters_of_the_published_one_and_all_of_it_can_be_pruned_exactly() -> None:
    published = get_model("segnet", num_classes=11, in_channels=3)
    assert sum(p.numel() for p in published.parameters()) == pytest.approx(29.45e6, rel=0.01)
    model = get_model("segnet16", num_classes=5, in_channels=3)
    assert model.eval()(torch.zeros(1, 3, 45, 61)).shape == (1, 5, 45, 61)
    narrow = type(model)(5, 3, width=4)
    network = trace_exactly(narrow, torch.zeros(2, 3, 33, 47))
    assert network.prunable_share == 1.0
    tied = {layer.producers for layer in network.layers if len(layer.producers) > 1}
    assert ("encoder.0.3", "decoder.3.3") in tied
    assert cost(network).macs > 0


def test_segnet_says_how_small_images_may_be() -> None:
    with pytest.raises(ValueError, match="32 pixels per side, got 31x40"):
        get_model("segnet16", num_classes=2, in_channels=3)(torch.zeros(1, 3, 31, 40))


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"])
def test_torchvisions_networks_answer_for_every_pixel(name: str, task: SegmentationTask) -> None:
    model = get_model(name, num_classes=2, in_channels=3)
    inputs, _ = task.batch("val", torch.arange(2))
    assert main_output(model.eval()(inputs)).shape == (2, 2, 32, 33)
    check_answers(model, task)


def test_torchvisions_lightest_network_is_trained_with_a_teacher_and_measured(
    task: SegmentationTask,
) -> None:
    model, teacher = (get_model("lraspp_mobilenet_v3_large", num_classes=2, in_channels=3) for _ in range(2))
    finetune(model, task, RecoveryConfig(epochs=1, batch_size=4), teacher=teacher)
    found = measure(model, task, "test")
    assert found.images == 4
    assert set(found.details) == {"0", "1"}


def test_segmentation_networks_are_known_by_name() -> None:
    names = {"fcn_resnet50", "deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large", "segnet", "segnet16"}
    assert names <= set(list_models())
    assert all(predicts_pixels(name) for name in names)
    assert not predicts_pixels("resnet18")


def test_a_folder_is_read_exactly(folder: Path, task: SegmentationTask) -> None:
    check_task(task)
    assert task.input_shape == (3, 32, 33)
    assert task.classes == ("0", "1")
    image = np.asarray(Image.open(folder / "val" / "images" / "2.png"))
    mask = np.asarray(Image.open(folder / "val" / "masks" / "2.png"))
    assert np.array_equal(task.splits["val"].images[2].numpy().transpose(1, 2, 0), image)
    assert np.array_equal(task.splits["val"].targets[2].numpy(), mask)


def test_missing_parts_are_split_off_and_classes_are_named_by_a_file(tmp_path: Path) -> None:
    write_folder(tmp_path, ("train", "test"), count=10)
    (tmp_path / "classes.txt").write_text("grass\nbarn\n")
    task = load_segmentation(tmp_path, val_fraction=0.2)
    assert task.classes == ("grass", "barn")
    assert [task.size(split) for split in ("train", "val", "test")] == [8, 2, 10]


def test_images_of_different_sizes_are_cut_to_squares_with_their_masks(tmp_path: Path) -> None:
    write_folder(tmp_path)
    task = load_segmentation(tmp_path, image_size=16)
    assert task.input_shape == (3, 16, 16)
    assert set(task.splits["train"].targets.unique().tolist()) <= {0, 1, VOID}


def test_the_mean_intersection_over_union_is_that_of_the_textbook() -> None:
    masks = torch.tensor([[[0, 0, 1, VOID]], [[1, 1, 0, VOID]]], dtype=torch.uint8)
    task = toy(masks)
    outputs = scores(torch.tensor([[[0, 1, 1, 2]], [[1, 1, 0, 0]]]))
    total = sum(task.statistics(outputs[k : k + 1], masks[k : k + 1].long()) for k in range(2))
    assert isinstance(total, Tensor)
    assert total.tolist() == [[2, 1, 0], [0, 3, 0], [0, 0, 0]]
    assert task.details(total) == {"a": pytest.approx(100 * 2 / 3), "b": 75.0, "c": None}
    assert task.metric(total) == pytest.approx((200 / 3 + 75) / 2)


def test_a_class_that_is_ignored_is_no_part_of_the_mean() -> None:
    masks = torch.tensor([[[0, 1, 2]]], dtype=torch.uint8)
    task = toy(masks, ignore_label=0)
    total = task.statistics(scores(torch.tensor([[[0, 1, 0]]])), masks.long())
    assert task.details(total) == {"a": None, "b": 100.0, "c": 0.0}


def test_ignored_pixels_have_no_loss_and_no_gradient() -> None:
    masks = torch.tensor([[[0, VOID]], [[2, 1]]], dtype=torch.uint8)
    outputs = torch.randn(2, 3, 1, 2, requires_grad=True)
    task = toy(masks, class_weights=(1.0, 2.0, 0.5))
    loss = task.loss(outputs, masks.long())
    expected = F.cross_entropy(outputs, masks.long(), torch.tensor([1.0, 2.0, 0.5]), ignore_index=VOID)
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, outputs)
    assert not gradient[0, :, 0, 1].any()
    assert task.loss(outputs, torch.full((2, 1, 2), VOID)).item() == 0.0


def test_median_frequency_balancing_weighs_by_the_share_where_a_class_is() -> None:
    masks = torch.tensor([[[0, 0, 0, 1]], [[0, 0, VOID, VOID]]], dtype=torch.uint8)
    # Class 0: 5 of the 6 pixels of both images; class 1: 1 of the 4 pixels of the first; class 2 nowhere.
    weights = balanced_weights(torch.stack([label_counts(mask) for mask in masks]), 3, VOID)
    median = torch.tensor([5 / 6, 1 / 4]).median().item()
    assert weights == pytest.approx((median / (5 / 6), median / (1 / 4), 1.0))


def test_views_move_images_and_masks_alike_and_ignore_what_is_outside() -> None:
    masks = torch.randint(0, 3, (1, 9, 12)).expand(16, -1, -1)
    images = (masks[:, None] * 50 + 50).float()
    draws = uniform(0, 0, torch.arange(16), 4)
    views, labels = random_views(images, masks, (0.5, 0.5), True, VOID, draws)
    outside = labels == VOID
    assert 0.5 < outside.float().mean() < 0.9
    assert views[:, 0][outside].max() < 200
    same, alike = random_views(images, masks, (1.0, 1.0), False, VOID, draws)
    torch.testing.assert_close(same, images, atol=0.05, rtol=0)
    assert torch.equal(alike, masks)
    larger, inside = random_views(images, masks, (1.5, 2.0), True, VOID, draws)
    assert not (inside == VOID).any()
    assert larger.shape == images.shape


def test_augmentation_follows_its_generator(task: SegmentationTask) -> None:
    task = dataclasses.replace(task, scales=(0.75, 1.5), flip=True)
    one, same, other = (
        task.batch("train", torch.arange(4), augment=True, generator=torch.Generator().manual_seed(s))
        for s in (0, 0, 1)
    )
    assert torch.equal(one[0], same[0])
    assert torch.equal(one[1], same[1])
    assert not torch.equal(one[0], other[0])


def remove_masks(root: Path) -> None:
    (root / "val" / "masks").rename(root / "val" / "labels")


def remove_one(root: Path) -> None:
    (root / "train" / "masks" / "0.png").unlink()


def colour(root: Path) -> None:
    path = root / "train" / "masks" / "0.png"
    Image.open(path).convert("RGB").save(path)


def shrink(root: Path) -> None:
    path = root / "train" / "masks" / "0.png"
    Image.open(path).resize((8, 8)).save(path)


def cut_short(root: Path) -> None:
    path = root / "test" / "masks" / "0.png"
    path.write_bytes(path.read_bytes()[:40])


def name_too_few(root: Path) -> None:
    (root / "classes.txt").write_text("all\n")


def name_in_latin_1(root: Path) -> None:
    (root / "classes.txt").write_text("straße\nhaus\n", encoding="latin-1")


def empty_train(root: Path) -> None:
    for path in (root / "train" / "images").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_masks, "has no masks/ folder"),
        (name_in_latin_1, r"classes\.txt cannot be read: .*; save it as UTF-8"),
        (remove_one, r"images/0\.png has no mask of the same name"),
        (colour, "mode RGB: masks are PNGs with one 8-bit channel"),
        (shrink, "8x8 pixels, its image 33x32"),
        (cut_short, r"masks/0\.png cannot be read"),
        (name_too_few, "has the label 1, .* names only 1 classes: give --ignore-label 1"),
        (empty_train, "has no images"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_in_one_line(tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    damage(write_folder(tmp_path))
    with pytest.raises(ValueError, match=message) as caught:
        load_segmentation(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_none_gets_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prune", "segnet16", "--task", "segmentation", "--data", "nowhere"]) == 2
    assert "--task segmentation needs --data FOLDER" in capsys.readouterr().err


def test_parts_that_do_not_belong_together_are_refused(task: SegmentationTask) -> None:
    for changes in (
        {"class_weights": (1.0,)},
        {"ignore_label": 300},
        {"scales": (2.0, 1.0)},
        {"mean": (0.0,)},
    ):
        with pytest.raises(ValueError, match=r"got|weights|hold"):
            dataclasses.replace(task, **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"give a network with outputs of \(2, 32, 33\)"):
        task.statistics(torch.zeros(2, 2, 8, 8), torch.zeros(2, 32, 33).long())
