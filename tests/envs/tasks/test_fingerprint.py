"""Data are known again by their examples, not by the order of training images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import IterableDataset

from secateur.envs.tasks import Accuracy, LoaderTask, TensorTask
from secateur.envs.tasks.fingerprint import are_same_data, data_fingerprint
from secateur.envs.tasks.passes import spread


def task_of(
    seed: int = 0, *, count: int = 40, test_from: int = 0, kind: type[TensorTask] = TensorTask
) -> TensorTask:
    generator = torch.Generator().manual_seed(seed)
    inputs, labels = torch.randn(count, 1, 4, 4, generator=generator), torch.arange(count) % 3
    split = (inputs, labels)
    test = (inputs[test_from:], labels[test_from:])
    return kind(train=split, val=split, test=test, loss=F.cross_entropy, metric=Accuracy())


class Rows(IterableDataset):  # type: ignore[type-arg]
    """Give rows in turn."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


class Noisy(TensorTask):
    """Give other inputs each time."""

    noise = torch.Generator()

    def batch(self, split, indices, **options):  # type: ignore[no-untyped-def]
        inputs, targets = super().batch(split, indices, **options)
        return inputs + torch.randn(inputs.shape, generator=self.noise), targets


class RandomCrop(TensorTask):
    """Draw from the global generator, as transforms do."""

    def batch(self, split, indices, **options):  # type: ignore[no-untyped-def]
        inputs, targets = super().batch(split, indices, **options)
        return inputs + torch.randn(inputs.shape), targets


def test_the_same_data_have_the_same_fingerprint_and_others_another() -> None:
    tasks = [task_of(), task_of(1), task_of(count=41), task_of(test_from=1)]
    assert data_fingerprint(task_of()) == data_fingerprint(tasks[0])
    found = [data_fingerprint(task) for task in tasks]
    for i, one in enumerate(found):
        assert [are_same_data(one, other) for other in found] == [i == j for j in range(len(found))]


@pytest.mark.parametrize(
    ("dtype", "mean"),
    [
        (torch.bool, "0.5"),
        (torch.uint8, "0.5"),
        (torch.int64, "0.5"),
        (torch.half, "~0.5"),
        (torch.cfloat, "~0.5"),
    ],
)
def test_targets_of_any_type_have_a_fingerprint(dtype: torch.dtype, mean: str) -> None:
    inputs, numbers = torch.ones(8, 1, 4, 4), torch.tensor([0, 1] * 8).view(8, 2)
    part = (inputs, numbers.to(dtype))
    task = TensorTask(train=part, val=part, test=part, loss=F.mse_loss, metric=Accuracy(), num_outputs=2)
    assert data_fingerprint(task) == "8" + (" 8" + f" ~1 {mean}" * 5) * 2


def test_what_is_counted_is_compared_exactly() -> None:
    assert not are_same_data("50000 ~0.5 1003", "50001 ~0.5 1003")
    assert not are_same_data("50000 ~0.5 1003", "50000 ~0.5 1004")
    assert are_same_data("50000 ~0.5 1003", "50000 ~0.50001 1003")
    assert not are_same_data("50000 ~0.5", "50000 ~0.5 3")


@pytest.mark.parametrize("size", [1, 3, 2**24 + 4, 50_000_004])
def test_examples_that_are_looked_at_are_there(size: int) -> None:
    chosen = spread(size, 5)
    assert chosen[0] == 0
    assert chosen[-1] == size - 1
    assert len(chosen) == min(5, size)


def test_rounding_makes_no_other_data() -> None:
    inputs, labels = torch.randn(8, 3, 4, 4), torch.arange(8)
    one, other = (
        TensorTask(train=part, val=part, test=part, loss=F.cross_entropy, metric=Accuracy())
        for part in ((inputs, labels), (inputs * (1 + 1e-6), labels))
    )
    assert are_same_data(data_fingerprint(one), data_fingerprint(other))
    assert not are_same_data(data_fingerprint(one), "")


def test_what_is_read_from_an_iterable_is_not_compared_unless_it_is_held() -> None:
    rows = list(zip(torch.randn(12, 1, 4, 4), torch.arange(12) % 3, strict=True))

    def read(in_memory: str) -> str:
        parts = {name: Rows(rows) for name in ("train", "val", "test")}
        return data_fingerprint(
            LoaderTask(**parts, in_memory=in_memory, workers=0, loss=F.cross_entropy, metric=Accuracy())
        )

    assert read("never") == ""
    assert read("always") == read("always") != ""


def test_what_a_transform_draws_is_fixed_and_what_is_other_each_time_is_not_compared() -> None:
    before = torch.get_rng_state()
    assert data_fingerprint(task_of(kind=RandomCrop)) == data_fingerprint(task_of(kind=RandomCrop)) != ""
    assert torch.equal(torch.get_rng_state(), before)
    assert data_fingerprint(task_of(kind=Noisy)) == ""
