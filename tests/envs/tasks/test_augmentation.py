"""Which augmentation training images get: the one that is named, and none that nobody asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from secateur.envs.recovery.batchnorm import reestimate_batchnorm
from secateur.envs.tasks import ClassificationTask, get_task
from support.folders import write_shades
from support.small import plain_network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shades(tmp_path_factory.mktemp("shades"), {"train": 20, "test": 10})


def varied(task: ClassificationTask) -> torch.Tensor:
    one = task.splits["train"].take(torch.zeros(200, dtype=torch.int64))
    task = dataclasses.replace(task, splits={**task.splits, "train": one})
    return task.batch("train", torch.arange(200), augment=True, generator=torch.Generator().manual_seed(0))[0]


@pytest.mark.parametrize(
    ("augment", "versions", "said"),
    [
        ("auto", 1, "none"),
        ("none", 1, "none"),
        ("flip", 2, "flips"),
        ("crop", 9, "random crops with a black border of 1 pixels"),
        ("flip-crop", 18, "random crops with a black border of 1 pixels and flips"),
    ],
)
def test_images_of_a_folder_get_the_augmentation_that_is_named(
    folder: Path, augment: str, versions: int, said: str
) -> None:
    task = get_task(str(folder), root=folder, augment=augment)
    assert len(varied(task).unique(dim=0)) == versions
    assert task.augmentation == said


def test_digits_are_cropped_as_customary_and_flipped_only_if_asked(tmp_path: Path) -> None:
    usual = get_task("digits", root=tmp_path)
    assert (usual.padding, usual.flip) == (1, False)
    flipped = get_task("digits", root=tmp_path, augment="flip")
    assert (flipped.padding, flipped.flip) == (0, True)
    assert get_task("digits", root=tmp_path, augment="none").augmentation == "none"


def test_an_unknown_augmentation_is_answered_with_all_names(tmp_path: Path) -> None:
    message = r"no augmentation 'flips', did you mean 'flip'\?; give auto, none, flip, crop, flip-crop"
    with pytest.raises(ValueError, match=message):
        get_task("digits", root=tmp_path, augment="flips")


def test_batch_norm_statistics_are_those_of_the_augmented_images(tmp_path: Path) -> None:
    means = []
    for augment in ("none", "crop"):
        task, model = get_task("digits", root=tmp_path, augment=augment), plain_network()
        reestimate_batchnorm(model, task, images=512, seed=0)
        means.append(model[1].running_mean)
    plain, cropped = means
    assert (plain - cropped).abs().max() > 1e-3
