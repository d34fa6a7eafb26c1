"""What holding back promises: halves of val that share no example, and all else as the task has it."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.envs.tasks import Accuracy, TensorTask, get_task
from secateur.envs.tasks.held_back import FEWEST, Halves, hold_back
from secateur.envs.tasks.passes import Pass, stream
from secateur.envs.tasks.user_task import check_task


class Plain:
    """A task of the user's own with the required members alone; an example's target is its number."""

    name, input_shape, num_outputs, notes = "plain", (1, 2, 2), 2, ()

    def __init__(self, val: int) -> None:
        self.val = val

    def size(self, split: str) -> int:
        return {"train": 10, "val": self.val, "test": 3}[split]

    def batch(self, split: str, indices: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        return indices[:, None, None, None].expand(-1, 1, 2, 2).float(), indices.clone()


class Streaming(Plain):
    """The same with a loader."""

    def loader(self, passed: Pass) -> list[tuple[Tensor, Tensor]]:
        return [self.batch(passed.split, share) for share in passed.shares]


def examples(task: Any) -> list[int]:
    found: list[int] = task.batch("val", torch.arange(task.size("val")))[1].tolist()
    return found


def labelled(labels: Tensor) -> TensorTask:
    few = torch.zeros(4, 1, 2, 2), torch.arange(4) % 2
    inputs = torch.arange(len(labels)).float()[:, None, None, None].expand(-1, 1, 2, 2)
    return TensorTask(train=few, val=(inputs, labels), test=few, loss=F.cross_entropy, metric=Accuracy(2))


@pytest.mark.parametrize("kind", [Plain, Streaming])
@pytest.mark.parametrize("val", [FEWEST, FEWEST + 1, 2000])
def test_the_halves_have_each_example_of_val_once(kind: type[Plain], val: int) -> None:
    halves = hold_back(kind(val))  # type: ignore[arg-type]
    search, judge = examples(halves.search), examples(halves.judge)
    assert sorted(search + judge) == list(range(val))
    assert abs(len(search) - len(judge)) <= 1
    assert halves.are_apart
    assert f"{len(judge)}" in halves.note


@pytest.mark.parametrize("kind", [Plain, Streaming])
def test_bounded_reads_and_passes_give_the_same_examples(kind: type[Plain]) -> None:
    judge: Any = hold_back(kind(600)).judge  # type: ignore[arg-type]
    order = torch.randperm(judge.size("val"), generator=torch.Generator().manual_seed(1))
    batches = order.split(64)
    for ranks in (1, 2):
        shares = [list(stream(judge, Pass("val", batches, rank=r, ranks=ranks))) for r in range(ranks)]
        for number, batch in enumerate(batches):
            read = torch.cat([share[number][1] for share in shares])
            assert torch.equal(read, judge.batch("val", batch)[1])


def test_the_same_seed_gives_the_same_halves_and_another_one_others() -> None:
    def judged(seed: int) -> list[int]:
        return examples(hold_back(Plain(1000), seed).judge)  # type: ignore[arg-type]

    assert judged(3) == judged(3) != judged(4)


@pytest.mark.parametrize(
    "labels", [torch.arange(1200) % 7, torch.arange(1200) // 200, torch.arange(1200) % 2]
)
def test_each_class_is_halved_however_the_examples_are_sorted(labels: Tensor) -> None:
    halves = hold_back(labelled(labels))
    counts = [torch.bincount(torch.tensor(examples(half))) for half in (halves.search, halves.judge)]
    assert int((counts[0] - counts[1]).abs().max()) <= 1


def test_image_tasks_are_stratified_without_reading_images() -> None:
    digits = get_task("digits", root=Path(), val_fraction=0.4)
    halves = hold_back(digits)
    assert halves.are_apart
    counts = [torch.bincount(torch.tensor(examples(half))) for half in (halves.search, halves.judge)]
    assert int((counts[0] - counts[1]).abs().max()) <= 1


def test_too_few_examples_are_not_divided_and_that_is_said() -> None:
    task = Plain(FEWEST - 1)
    halves = hold_back(task)  # type: ignore[arg-type]
    assert isinstance(halves, Halves)
    assert halves.search is halves.judge is task
    assert not halves.are_apart
    assert f"val has only {FEWEST - 1} examples" in halves.note


def test_all_else_is_the_tasks_own() -> None:
    digits = get_task("digits", root=Path(), val_fraction=0.4)
    judge: Any = hold_back(digits).judge
    check_task(judge)
    assert judge.classes == digits.classes
    assert judge.size("train") == digits.size("train")
    assert judge.size("test") == digits.size("test")
    indices = torch.arange(5)
    for split in ("train", "test"):
        pairs = judge.batch(split, indices), digits.batch(split, indices)
        assert all(torch.equal(mine, own) for mine, own in zip(*pairs, strict=True))
    for other in (copy.deepcopy(judge), pickle.loads(pickle.dumps(judge)), judge.to("cpu")):
        assert examples(other) == examples(judge)
