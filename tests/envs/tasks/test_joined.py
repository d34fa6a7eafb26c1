"""What training on val, too, promises: every example of both parts once, as its own part gives it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from secateur.envs.tasks import ClassificationTask, get_task
from secateur.envs.tasks.joined import with_val_in_train
from secateur.envs.tasks.passes import Pass, stream
from secateur.envs.tasks.user_task import check_task


class Plain:
    """A task of the user's own with the required members alone; it tells its parts by their sign."""

    name, input_shape, num_outputs, notes = "plain", (1, 2, 2), 2, ()

    def size(self, split: str) -> int:
        return {"train": 10, "val": 4, "test": 3}[split]

    def batch(self, split: str, indices: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        sign = {"train": 1, "val": -1, "test": 100}[split]
        marks = sign * (indices + 1)
        if options.get("augment") and options.get("generator") is not None:
            noise = torch.rand(len(indices), generator=options["generator"])
        else:
            noise = torch.zeros(len(indices))
        return (marks + noise)[:, None, None, None].expand(-1, 1, 2, 2).float(), marks

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sum()

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.zeros(1)

    def metric(self, statistics: Tensor) -> float:
        return 0.0


class Streaming(Plain):
    """The same with a loader."""

    passes: list[Pass]

    def __init__(self) -> None:
        self.passes = []

    def loader(self, passed: Pass) -> Iterable[tuple[Tensor, Tensor]]:
        self.passes.append(passed)
        return [self.batch(passed.split, share) for share in passed.shares]


def marks(task: Any, passed: Pass) -> list[list[int]]:
    return [targets.tolist() for _, targets in stream(task, passed)]


def expected(indices: Tensor) -> list[int]:
    return [index + 1 if index < 10 else -(index - 9) for index in indices.tolist()]


@pytest.fixture(params=[Plain, Streaming])
def task(request: pytest.FixtureRequest) -> Any:
    return request.param()


def test_the_joined_train_has_the_examples_of_both_parts_and_no_others(task: Any) -> None:
    joined = with_val_in_train(task)
    assert [joined.size(split) for split in ("train", "val", "test")] == [14, 4, 3]
    order = torch.randperm(14)
    assert joined.batch("train", order)[1].tolist() == expected(order)
    inputs, targets = joined.batch("train", order)
    assert torch.equal(inputs[:, 0, 0, 0], targets.float())
    for split in ("val", "test"):
        indices = torch.arange(3)
        pairs = joined.batch(split, indices), task.batch(split, indices)
        assert all(torch.equal(mine, own) for mine, own in zip(*pairs, strict=True))


def test_a_pass_gives_every_example_once_in_its_order(task: Any) -> None:
    order = torch.randperm(14)
    found = marks(with_val_in_train(task), Pass("train", order.split(4)))
    assert found == [expected(batch) for batch in order.split(4)]


@pytest.mark.parametrize("batches", [[range(10, 14), range(3), range(3, 6)], [range(3), [], range(8, 12)]])
def test_batches_of_one_part_alone_and_empty_ones_are_given_too(task: Any, batches: list[Any]) -> None:
    passed = Pass("train", [torch.tensor(list(batch), dtype=torch.int64) for batch in batches])
    assert marks(with_val_in_train(task), passed) == [expected(batch) for batch in passed.batches]


@pytest.mark.parametrize("first", range(5))
def test_a_pass_goes_on_after_an_interruption_with_the_same_examples(task: Any, first: int) -> None:
    batches = torch.randperm(14, generator=torch.Generator().manual_seed(2)).split(3)
    passed = Pass("train", batches, augment=True, seed=3, epoch=1)
    joined = with_val_in_train(task)
    whole = [inputs for inputs, _ in stream(joined, passed)]
    rest = [inputs for inputs, _ in stream(joined, dataclasses.replace(passed, first=first))]
    assert len(rest) == len(batches) - first
    assert all(torch.equal(one, other) for one, other in zip(rest, whole[first:], strict=True))


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_ranks_share_each_batch(task: Any, ranks: int) -> None:
    batches = torch.randperm(14).split(5)
    joined = with_val_in_train(task)
    shares = [marks(joined, Pass("train", batches, rank=rank, ranks=ranks)) for rank in range(ranks)]
    for number, batch in enumerate(batches):
        assert list(chain.from_iterable(share[number] for share in shares)) == expected(batch)


def test_the_loader_of_the_task_reads_both_parts_with_its_seed_and_epoch() -> None:
    task = Streaming()
    list(stream(with_val_in_train(task), Pass("train", torch.arange(14).split(7), True, 5, 2)))  # type: ignore[arg-type]
    assert {passed.split: (passed.augment, passed.seed, passed.epoch) for passed in task.passes} == {
        "train": (True, 5, 2), "val": (True, 5, 2),
    }  # fmt: skip
    list(stream(with_val_in_train(task), Pass("test", [torch.arange(3)])))  # type: ignore[arg-type]
    assert task.passes[-1].split == "test"


def test_all_else_is_the_tasks_own() -> None:
    digits = get_task("digits", root=Path())
    joined: Any = with_val_in_train(digits)
    check_task(joined)
    assert joined.classes == digits.classes
    assert joined.normalised.__func__ is ClassificationTask.normalised
    assert copy.deepcopy(joined).size("train") == digits.size("train") + digits.size("val")
    assert joined.to("cpu").size("train") == joined.size("train")
    inputs, targets = joined.batch("train", torch.tensor([digits.size("train"), 0]))
    assert torch.equal(inputs[0], digits.batch("val", torch.tensor([0]))[0][0])
    assert targets.tolist()[1] == digits.batch("train", torch.tensor([0]))[1].item()


def test_a_task_that_can_do_it_itself_is_asked() -> None:
    class Own(Plain):
        def with_val_in_train(self) -> str:
            return "joined by itself"

    joined: Any = with_val_in_train(Own())  # type: ignore[arg-type]
    assert joined == "joined by itself"
