"""What data promise: disjoint stratified parts, exact augmentation, and clear words about bad folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from secateur.envs.tasks import ClassificationTask, Split, get_task, measure
from secateur.envs.tasks.draws import uniform
from secateur.envs.tasks.images.classification import gathered_crops, random_crops, sliced_crops
from secateur.envs.tasks.images.file_list import images_under
from secateur.envs.tasks.images.splits import complete_splits, stratified_split


def a_split(count: int, classes: int = 4, first: int = 0) -> Split:
    """Make images that can be told apart by the value of their pixels, `first` and up."""
    values = torch.arange(first, first + count)
    return Split.held(values.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2), values % classes)


def ids(split: Split) -> set[int]:
    return set(split.images[:, 0, 0, 0].tolist())


def a_task(**changes: object) -> ClassificationTask:
    parts = {name: a_split(20, first=first) for name, first in (("train", 0), ("val", 20), ("test", 40))}
    settings = {"splits": parts, "mean": (0.5,), "std": (0.25,)} | changes
    return ClassificationTask("toy", classes=("a", "b", "c", "d"), **settings)  # type: ignore[arg-type]


def write_folder(root: Path, parts: dict[str, int], classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """Write that many 6x4 images (width, height) per class and part, each of its own colour."""
    generator = np.random.default_rng(0)
    for part, count in parts.items():
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (4, 6, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


@given(st.lists(st.integers(0, 3), min_size=8, max_size=80), st.floats(0.05, 0.95), st.integers(0, 9))
def test_a_stratified_split_takes_the_same_share_of_every_class(
    labels: list[int], fraction: float, seed: int
) -> None:
    tensor = torch.tensor(labels)
    rest, taken = stratified_split(tensor, fraction, seed)
    assert sorted([*rest.tolist(), *taken.tolist()]) == list(range(len(labels)))
    for label in set(labels):
        share, whole = int((tensor[taken] == label).sum()), labels.count(label)
        assert abs(share - fraction * whole) <= 1
        assert share < whole


def test_splits_follow_their_seed() -> None:
    labels = torch.arange(100) % 5
    first, again, other = (stratified_split(labels, 0.2, seed)[1] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("val_from", ["train", "test"])
@pytest.mark.parametrize("names", [("train",), ("train", "test"), ("train", "val"), ("train", "val", "test")])
def test_no_image_is_in_two_parts_and_none_gets_lost(names: tuple[str, ...], val_from: str) -> None:
    given_parts = {name: a_split(40, first=40 * i) for i, name in enumerate(names)}
    parts, notes = complete_splits(given_parts, val_from=val_from, val_fraction=0.25)  # type: ignore[arg-type]
    found = [ids(part) for part in parts.values()]
    assert len(found) == 3
    unused = 40 if val_from == "test" and {"val", "test"} <= set(names) else 0
    assert sum(map(len, found)) == len(set().union(*found)) == 40 * len(names) - unused
    assert f"train {len(parts['train'])}, val {len(parts['val'])}, test {len(parts['test'])}" in notes[-1]


def test_val_from_test_leaves_train_whole_and_halves_test() -> None:
    whole = {"train": a_split(40), "test": a_split(40, first=40)}
    parts, notes = complete_splits(whole, val_from="test")  # type: ignore[arg-type]
    assert ids(parts["train"]) == ids(whole["train"])
    assert len(parts["val"]) == len(parts["test"]) == 20
    assert "20 as val, 20 as test" in notes[0]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0])
def test_a_fraction_that_leaves_a_part_empty_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        stratified_split(torch.zeros(10), fraction, 0)


def test_too_few_images_to_split_are_refused() -> None:
    with pytest.raises(ValueError, match="too few to split"):
        stratified_split(torch.arange(3), 0.5, 0)


def test_a_batch_is_normalised_and_keeps_the_order_of_the_indices() -> None:
    inputs, labels = a_task().batch("val", torch.tensor([3, 0]))
    assert inputs.dtype == torch.float32
    torch.testing.assert_close(inputs[:, 0, 0, 0], (torch.tensor([23.0, 20.0]) / 255 - 0.5) / 0.25)
    assert labels.tolist() == [3, 0]


def crop_by_hand(image: Tensor, down: int, right: int, padding: int, mirrored: bool) -> Tensor:
    channels, height, width = image.shape
    canvas = torch.zeros(channels, height + 2 * padding, width + 2 * padding, dtype=image.dtype)
    canvas[:, padding : padding + height, padding : padding + width] = image
    crop = canvas[:, down : down + height, right : right + width]
    return crop.flip(-1) if mirrored else crop


def test_every_augmented_image_is_a_crop_of_the_black_padded_one_and_all_crops_occur() -> None:
    image = torch.randint(1, 256, (1, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    draws = uniform(1, 0, torch.arange(600), 3)
    augmented = random_crops(image.expand(600, -1, -1, -1), 1, True, draws)
    every = {
        crop_by_hand(image[0], down, right, 1, mirrored).numpy().tobytes()
        for down in range(3)
        for right in range(3)
        for mirrored in (False, True)
    }
    assert {crop.contiguous().numpy().tobytes() for crop in augmented} == every


def test_crops_are_the_same_by_slices_and_by_a_gather() -> None:
    images, draws = (
        torch.randint(0, 256, (32, 3, 7, 9), dtype=torch.uint8),
        uniform(0, 0, torch.arange(32), 3),
    )
    corners, mirrored = (draws[:, :2] * 3).long(), draws[:, 2] < 0.5
    cut = [
        crops(images, corners, mirrored, torch.empty(32, 3, 5, 7, dtype=torch.uint8))
        for crops in (sliced_crops, gathered_crops)
    ]
    assert torch.equal(*cut)


def test_without_padding_and_flip_augmentation_changes_nothing() -> None:
    indices = torch.arange(20)
    plain, varied = (a_task().batch("train", indices, augment=augment)[0] for augment in (False, True))
    assert torch.equal(plain, varied)


def test_augmented_grey_images_have_the_strides_of_plain_ones() -> None:
    task = a_task(padding=1)
    strides = {task.batch("train", torch.arange(4), augment=augment)[0].stride() for augment in (False, True)}
    assert strides == {(4, 4, 2, 1)}


def test_augmentation_follows_its_generator() -> None:
    task = a_task(padding=1)
    first, again, other = (
        task.batch("train", torch.arange(20), augment=True, generator=torch.Generator().manual_seed(s))[0]
        for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_rim_of_a_crop_is_black_before_normalising() -> None:
    last = a_split(20).take(torch.full((64,), 19))
    task = a_task(padding=2, splits=dict.fromkeys(("train", "val", "test"), last))
    inputs, _ = task.batch(
        "train", torch.arange(64), augment=True, generator=torch.Generator().manual_seed(0)
    )
    values = inputs.unique().tolist()
    assert values == pytest.approx([(0 - 0.5) / 0.25, (19 / 255 - 0.5) / 0.25])


class Oracle(nn.Module):
    """Know the label of every image but those of the first `wrong` pixel values from 40."""

    def __init__(self, wrong: int) -> None:
        super().__init__()
        self.wrong = wrong
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        value = ((x[:, 0, 0, 0] * 0.25 + 0.5) * 255).round().long()
        answer = torch.where(value < 40 + self.wrong, value + 1, value) % 4
        return self.dropout(10.0 * nn.functional.one_hot(answer, 4))


@pytest.mark.parametrize("batch_size", [1, 7, 512])
def test_measuring_counts_every_image_once_and_restores_the_modes(batch_size: int) -> None:
    model = Oracle(wrong=5)
    model.train()
    model.dropout.eval()
    found = measure(model, a_task(), "test", batch_size=batch_size)
    assert (found.accuracy, found.images) == (75.0, 20)
    assert found.loss == pytest.approx(2.5, abs=1e-3)
    assert (model.training, model.dropout.training) == (True, False)


def test_a_limit_is_spread_over_the_whole_split() -> None:
    # The wrong answers are all among the first quarter: taking the first 8 images would show 5 of them.
    assert measure(Oracle(wrong=5), a_task(), "test", limit=8).accuracy == 75.0
    with pytest.raises(ValueError, match="nothing to measure"):
        measure(Oracle(wrong=5), a_task(), "test", limit=0)


def test_networks_that_view_their_feature_maps_can_be_measured() -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 1)
            self.linear = nn.Linear(12, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(self.conv(x).view(-1, 12))

    assert measure(Views(), a_task(), "val").images == 20


def test_outputs_that_are_not_the_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"4 classes, the network's outputs have the shape \(10,\)"):
        measure(nn.Sequential(nn.Flatten(), nn.Linear(4, 10)), a_task(), "val")


def test_digits_are_split_by_seed_but_tested_on_the_same_images(tmp_path: Path) -> None:
    one, other = (get_task("digits", root=tmp_path, seed=seed) for seed in (0, 1))
    assert one.input_shape == (1, 8, 8)
    assert sum(one.size(split) for split in ("train", "val", "test")) == 1797
    assert torch.equal(one.splits["test"].images, other.splits["test"].images)
    assert not torch.equal(one.splits["val"].images, other.splits["val"].images)
    inputs, _ = one.batch("train", torch.arange(one.size("train")))
    assert inputs.mean().item() == pytest.approx(0, abs=0.05)
    assert inputs.std().item() == pytest.approx(1, abs=0.05)


def test_known_data_can_be_resized(tmp_path: Path) -> None:
    task = get_task("digits", root=tmp_path, image_size=12)
    assert task.input_shape == (1, 12, 12)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("cifar", r"no data set and no folder 'cifar', did you mean 'cifar10+'\?"),
        ("some/where", "a folder with train/<class>"),
        ("cifar10", "give --download"),
        ("mnist", "give --download"),
    ],
)
def test_data_that_are_not_there_are_answered_with_what_to_do(
    tmp_path: Path, data: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        get_task(data, root=tmp_path)


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_an_image_folder_is_read_exactly(tmp_path: Path, val: str) -> None:
    write_folder(tmp_path, {"train": 3, val: 2, "test": 1})
    task = get_task(str(tmp_path), root=tmp_path)
    assert task.classes == ("cat", "dog")
    assert task.input_shape == (3, 4, 6)
    assert [task.size(split) for split in ("train", "val", "test")] == [6, 4, 2]
    assert task.splits["val"].targets.tolist() == [0, 0, 1, 1]
    expected = np.asarray(Image.open(tmp_path / val / "dog" / "1.png")).transpose(2, 0, 1)
    assert np.array_equal(task.splits["val"].images[3].numpy(), expected)
    assert task.mean == (0.485, 0.456, 0.406)


def test_grey_images_stay_grey_and_mixed_ones_become_coloured(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 4, "test": 4})
    paths = list(tmp_path.rglob("*.png"))
    for path in paths:
        Image.open(path).convert("L").save(path)
    assert get_task(str(tmp_path), root=tmp_path).input_shape == (1, 4, 6)
    Image.open(paths[0]).convert("RGBA").save(paths[0])
    assert get_task(str(tmp_path), root=tmp_path).input_shape == (3, 4, 6)


def test_images_of_different_sizes_are_resized_and_cut(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 4, "test": 4})
    Image.new("RGB", (90, 30), "red").save(tmp_path / "train" / "cat" / "0.png")
    task = get_task(str(tmp_path), root=tmp_path)
    assert task.input_shape == (3, 224, 224)
    assert "2 sizes" in task.notes[0]
    assert get_task(str(tmp_path), root=tmp_path, image_size=16).input_shape == (3, 16, 16)


def remove_train(root: Path) -> None:
    (root / "train").rename(root / "training")


def empty_a_class(root: Path) -> None:
    for path in (root / "test" / "dog").iterdir():
        path.unlink()


def cut_a_file_short(root: Path) -> None:
    path = root / "train" / "cat" / "0.png"
    path.write_bytes(path.read_bytes()[:-40])


def replace_by_text(root: Path) -> None:
    (root / "train" / "cat" / "0.png").write_text("no image")


def rename_a_class(root: Path) -> None:
    (root / "test" / "dog").rename(root / "test" / "wolf")


def double_val(root: Path) -> None:
    write_folder(root, {"val": 1, "valid": 1})


def leave_an_empty_folder(root: Path) -> None:
    (root / "train" / "bird").mkdir()


def deepen(root: Path) -> None:
    Image.fromarray(np.zeros((4, 6), np.uint16)).save(root / "train" / "cat" / "0.png")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_train, "has no train/ folder"),
        (empty_a_class, "dog has no images"),
        (cut_a_file_short, r"0\.png cannot be read as an image"),
        (replace_by_text, r"0\.png cannot be read as an image"),
        (leave_an_empty_folder, "the class folder .*bird has no images: fill it or remove it"),
        (rename_a_class, "train/ and test/ have different classes: 'dog' is only in"),
        (double_val, "has both val/ and valid/"),
        (deepen, "more than 8 bits"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_in_one_line(tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    damage(write_folder(tmp_path, {"train": 4, "test": 4}))
    with pytest.raises(ValueError, match=message) as caught:
        get_task(str(tmp_path), root=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_link_to_a_folder_around_it_does_not_multiply_images(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "inner"
    inner.mkdir(parents=True)
    (inner / "one.png").touch()
    (inner / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "again").symlink_to(inner)
    assert images_under(tmp_path / "a") == ["again/one.png", "inner/one.png"]
