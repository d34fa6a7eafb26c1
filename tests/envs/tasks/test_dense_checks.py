"""What can be seen of a dense network before a run: normalisation, chance, and images that it knows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from secateur.envs.tasks import ClassificationTask, get_task, measure
from secateur.envs.tasks.images.dense_checks import (
    better_normalisation,
    constant_accuracy,
    known_better,
    sample,
)
from support.folders import train_shades, write_shades

NAMES = ("imagenet", "data", "half", "none", "0-255")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shades(tmp_path_factory.mktemp("shades"), {"train": 100, "test": 60})


def task_of(folder: Path, normalisation: str) -> ClassificationTask:
    return get_task(str(folder), root=folder, normalisation=normalisation)


@pytest.mark.parametrize("own", NAMES)
def test_a_network_is_best_with_the_normalisation_of_its_training(folder: Path, own: str) -> None:
    model = train_shades(task_of(folder, own))
    assert measure(model, task_of(folder, own), "test").accuracy > 85
    assert better_normalisation(model, task_of(folder, own)) is None
    worst = "none" if own == "0-255" else "0-255"
    found = better_normalisation(model, task_of(folder, worst))
    assert found is not None
    name, difference = found
    at_best = measure(model, task_of(folder, name), "val").accuracy
    assert difference.second > difference.first + 10
    assert at_best >= measure(model, task_of(folder, own), "val").accuracy - 5


def test_a_normalisation_that_is_hardly_better_is_not_reported(folder: Path) -> None:
    task = task_of(folder, "imagenet")
    model = train_shades(task)
    near = dataclasses.replace(task, mean=tuple(m + 0.01 for m in task.mean))
    assert better_normalisation(model, near) is None


def test_a_network_that_answers_at_random_is_no_better_than_a_constant_answer(folder: Path) -> None:
    task = task_of(folder, "imagenet")
    few = sample(task, "val")
    model = train_shades(task)
    assert constant_accuracy(few, measure(model, few, "val", by_example=True)) is None
    with torch.no_grad():
        model[-1].weight.copy_(model[-1].weight.roll(1, 0))  # another order of the classes
        model[-1].bias.copy_(model[-1].bias.roll(1))
    found = constant_accuracy(few, measure(model, few, "val", by_example=True))
    assert found == pytest.approx(100 / 3, abs=0.1)


def test_a_normalisation_that_makes_an_answer_constant_is_no_better_one(folder: Path) -> None:
    task = task_of(folder, "imagenet")
    model = train_shades(task)
    with torch.no_grad():
        model[-1].weight.copy_(model[-1].weight.roll(1, 0))  # always wrong, so a constant answer is better
        model[-1].bias.copy_(model[-1].bias.roll(1))
    assert measure(model, task, "val").accuracy < 20
    assert measure(model, task_of(folder, "0-255"), "val").accuracy == pytest.approx(100 / 3, abs=10)
    assert better_normalisation(model, task) is None


def test_images_that_a_network_was_trained_on_are_told_from_others(tmp_path: Path) -> None:
    task = task_of(write_shades(tmp_path, {"train": 60, "test": 60}, noise=500), "imagenet")
    model = train_shades(task, steps=150)
    is_known, difference = known_better(model, sample(task, "train"), sample(task, "test"))
    assert is_known
    assert difference.first > difference.second + 10
    assert not known_better(model, sample(task, "val"), sample(task, "test"))[0]
    assert not known_better(model, sample(task, "test"), sample(task, "train"))[0]


def test_a_sample_is_spread_over_its_images_and_all_splits_of_it_are_the_same(folder: Path) -> None:
    task = task_of(folder, "none")
    few = sample(task, "test", 6)
    assert few.splits["val"].targets.tolist() == [0, 0, 1, 1, 2, 2]
    assert few.splits["train"] is few.splits["test"]
    chosen = sample(task, "test", 3, torch.tensor([0, 70, 150, 170]))
    assert torch.equal(chosen.splits["val"].images, task.splits["test"].images[[0, 70, 150]])
    assert sample(task, "test").size("val") == task.size("test")
