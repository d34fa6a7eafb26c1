# ruff: noqa: NPY002 - the global generators of users' data sets
"""One's own data sets: of every kind, streamed and held, the same examples however they are read."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    get_worker_info,
)

from secateur.envs.recovery.callbacks import Progress
from secateur.envs.recovery.checkpoint import Checkpoint, Stopped
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.tasks import R2, LoaderTask
from secateur.envs.tasks.passes import DataError, Pass, stream
from support.own_data import (
    SIZE,
    SPLITS,
    Shifted,
    Streamed,
    as_dicts,
    batches,
    noisy,
    same,
    task_of,
)

KINDS: dict[str, Callable[[], Any]] = {
    "data set": Shifted,
    "list of examples": lambda: [Shifted()[k] for k in range(SIZE)],
    "loader": lambda: DataLoader(Shifted(), batch_size=5, shuffle=True),
    "loader with workers": lambda: DataLoader(Shifted(), batch_size=5, num_workers=2),
    "loader of dicts": lambda: DataLoader(Shifted(), batch_size=5, collate_fn=as_dicts),
    "stream": Streamed,
    "loader of a stream": lambda: DataLoader(Streamed(), batch_size=5),
    "list of batches": lambda: list(DataLoader(Shifted(), batch_size=5)),
    "iterator of batches": lambda: iter(DataLoader(Shifted(), batch_size=5)),
    "iterator of examples": lambda: iter(Streamed()),
}


@pytest.mark.parametrize("in_memory", ["auto", "never"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_gives_the_same_examples(kind: str, in_memory: Any) -> None:
    task = task_of(KINDS[kind](), in_memory=in_memory, sizes={"train": SIZE})
    assert (task.size("train"), task.num_outputs, task.input_shape) == (SIZE, 3, (1, 4, 4))
    inputs, targets = task.batch("train", torch.arange(SIZE))
    assert inputs[:, 0, 0, 0].tolist() == list(range(SIZE))
    assert targets.tolist() == [k % 3 for k in range(SIZE)]
    assert targets.dtype == torch.int64
    read = list(stream(task, Pass("train", torch.arange(SIZE).split(7))))
    assert torch.equal(torch.cat([x for x, _ in read]), inputs)
    assert torch.equal(torch.cat([y for _, y in read]), targets)


@pytest.mark.parametrize("make", [Shifted, Streamed], ids=["map", "stream"])
def test_a_pass_goes_on_exactly_where_it_was_interrupted(make: Any) -> None:
    task = task_of(make(augments=True), workers=0)
    whole = batches(task)
    assert same(whole, batches(task))
    assert not same(whole, batches(task, epoch=2))
    assert not same(whole, batches(task, seed=4))
    for first in (1, 3):
        torch.rand(first), random.random()
        assert same(whole[first:], batches(task, first=first))


def test_workers_do_not_change_anything() -> None:
    without, with_two = (batches(task_of(Shifted(augments=True), workers=workers)) for workers in (0, 2))
    assert same(without, with_two)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("make", [Shifted, Streamed], ids=["map", "stream"])
def test_ranks_read_parts_of_every_batch(make: Any) -> None:
    task = task_of(make(augments=True), workers=0)
    parts = [batches(task, first=1, rank=rank, ranks=4) for rank in range(4)]
    assert [len(part[-1][0]) for part in parts] == [1, 1, 1, 1]  # of 3 examples the last rank gets the first
    parts[3].pop()
    parts[3].append(tuple(part[:0] for part in parts[0][-1]))  # type: ignore[arg-type]
    joined = [tuple(map(torch.cat, zip(*batch, strict=True))) for batch in zip(*parts, strict=True)]
    assert same(joined, batches(task, first=1))  # type: ignore[arg-type]


def trained(workers: int, checkpoint: Checkpoint | None = None, stop_at: int = 0) -> list[Tensor]:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    model = nn.Sequential(*layers)
    task = task_of(Shifted(augments=True), workers=workers)
    steps: list[int] = []

    def stop(_: Progress) -> None:
        steps.append(len(steps))
        if len(steps) == stop_at:
            raise Stopped("for the test")

    config = RecoveryConfig(epochs=2, batch_size=5, distillation_weight=0.0)
    with contextlib.suppress(Stopped):
        finetune(model, task, config, checkpoint=checkpoint, on_step=stop, seed=1)
    return list(model.state_dict().values())


def test_training_resumed_with_other_workers_gives_the_same_weights(tmp_path: Path) -> None:
    whole = trained(workers=0)
    trained(workers=1, checkpoint=Checkpoint(tmp_path / "state"), stop_at=6)  # in the second epoch
    again = trained(workers=0, checkpoint=Checkpoint(tmp_path / "state"))
    assert all(torch.equal(one, other) for one, other in zip(whole, again, strict=True))


def test_random_numbers_outside_are_left_alone() -> None:
    task = task_of(Shifted(augments=True), workers=0)
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = random.random(), float(np.random.rand()), float(torch.rand(()))
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    batches(task)
    assert (random.random(), float(np.random.rand()), float(torch.rand(()))) == expected


def test_bounded_reads_augment_with_their_generator() -> None:
    task = task_of(Shifted(augments=True))
    few = torch.tensor([3, 5])
    one, again, other = (
        task.batch("train", few, augment=True, generator=torch.Generator().manual_seed(seed))[0]
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    plain = task.batch("train", few)[0]
    assert torch.equal(plain, task.batch("train", few)[0])


def test_transforms_are_the_same_held_and_streamed() -> None:
    held, streamed = (
        task_of(Shifted(), train_transform=noisy, eval_transform=torch.neg, in_memory=how, workers=0)
        for how in ("always", "never")
    )
    assert held.notes[0].startswith("In memory: train")
    assert streamed.notes[0].startswith("Streamed: train")
    assert same(batches(held), batches(streamed))
    for split in SPLITS:
        inputs = held.batch(split, torch.arange(SIZE))[0]
        assert inputs[:, 0, 0, 0].tolist() == [-float(k) for k in range(SIZE)]
        assert torch.equal(inputs, streamed.batch(split, torch.arange(SIZE))[0])


def test_what_augments_is_not_held_and_the_rest_is() -> None:
    task = task_of(Shifted(augments=True))
    assert "In memory: val" in task.notes[0]
    assert "Streamed: train" in task.notes[0]
    assert "augments" in task.notes[0]
    with pytest.raises(ValueError, match="the examples of train differ each time"):
        task_of(Shifted(augments=True), in_memory="always")


def test_a_stream_is_read_no_further_than_needed() -> None:
    data = Streamed(size=10**9, most=4300)
    task = task_of(data, sizes={"train": 10**9}, in_memory="never")
    assert task.size("train") == 10**9
    assert task.batch("train", torch.tensor([10**9 - 1]))[0].shape == (1, 1, 4, 4)
    read = list(stream(task, Pass("train", torch.arange(70).split(7), first=5)))
    assert read[0][0][:, 0, 0, 0].tolist() == list(range(35, 42))
    assert "use 4,096 of the examples of train" in task.notes[0]


def test_a_stream_without_a_length_is_counted_once_and_too_short_a_one_is_named() -> None:
    task = task_of(Streamed(), in_memory="never")
    assert task.size("train") == SIZE
    assert "its 24 examples were counted once" in " ".join(task.notes)
    task._sources["train"].data.data.size = 20
    with pytest.raises(DataError, match=r"train ended after 20 of 24 examples; give sizes=\{'train': 20\}"):
        batches(task)


def test_the_epoch_is_told_to_a_stream() -> None:
    task = task_of(Streamed(), in_memory="never")
    order = torch.arange(SIZE)
    first = [float(batches(task, order, epoch=epoch)[0][0][0, 0, 0, 0]) for epoch in (0, 1, 5)]
    assert first == [0, 1, 5]


class Unseeded(Streamed):
    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        draw = random.Random(os.urandom(8))
        for inputs, label in super().__iter__():
            yield inputs + draw.random(), label


def test_a_stream_that_cannot_be_repeated_is_said() -> None:
    assert "train gives other examples each time" in " ".join(task_of(Unseeded()).notes)


@pytest.mark.parametrize("make", [Shifted, Streamed], ids=["map", "stream"])
@pytest.mark.parametrize("in_memory", ["always", "never"])
def test_val_joins_train_for_the_last_training(make: Any, in_memory: Any) -> None:
    other = [(torch.full((1, 4, 4), 100.0 + k), k % 3) for k in range(10)]
    task = task_of(make(), val=other, in_memory=in_memory, workers=0).with_val_in_train()
    assert [task.size(split) for split in ("train", "val", "test")] == [SIZE + 10, 10, SIZE]
    everything = {*map(float, range(SIZE)), *(100.0 + k for k in range(10))}
    assert set(task.batch("train", torch.arange(SIZE + 10))[0][:, 0, 0, 0].tolist()) == everything
    whole = batches(task)
    assert {float(x) for inputs, _ in whole for x in inputs[:, 0, 0, 0]} == everything
    assert same(whole[2:], batches(task, first=2))
    parts = [batches(task, rank=rank, ranks=3) for rank in range(3)]
    joined = [tuple(map(torch.cat, zip(*batch, strict=True))) for batch in zip(*parts, strict=True)]
    assert same(joined, whole)  # type: ignore[arg-type]


def test_val_is_transformed_as_train_when_it_joins_it() -> None:
    def brighter(image: Tensor) -> Tensor:
        return image + 1000

    task = task_of(Shifted(), train_transform=brighter).with_val_in_train()
    inputs, _ = zip(*batches(task, torch.arange(2 * SIZE)), strict=True)
    assert float(torch.cat(inputs).min()) == 1000
    assert float(task.batch("val", torch.arange(1))[0].max()) == 0


class Batched(Streamed):
    """A stream of batches whose length is the number of its batches."""

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[Any]:
        yield from DataLoader(Shifted(), batch_size=6)


@pytest.mark.parametrize("make", [Batched, lambda: DataLoader(Batched(), batch_size=None)])
def test_all_examples_of_a_stream_of_batches_are_used(make: Any) -> None:
    assert task_of(make()).size("train") == SIZE


def test_images_with_as_many_numbers_as_channels_are_examples() -> None:
    pairs = [(torch.full((3, 8, 8), float(k)), torch.eye(3)[k % 3]) for k in range(SIZE)]
    task = LoaderTask(train=pairs, val=pairs, test=pairs, loss=F.mse_loss, metric=R2())
    assert (task.size("train"), task.input_shape, task.num_outputs) == (SIZE, (3, 8, 8), 3)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"sizes": {"trian": 5}}, "there is no split in sizes 'trian'"),
        ({"sizes": {"train": 0}}, "the size of train is 0"),
        ({"workers": -4}, "workers is -4"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: Any, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        task_of(Streamed(), **settings)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_example_that_fails_is_one_line_and_no_process_is_left(
    workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    task = task_of(Shifted(), in_memory="never", workers=workers)
    task._sources["train"].data.fails_at = 7
    line = r"example 7 of train cannot be read \(FileNotFoundError: image 7 is gone; own_data\.py, line \d+\)"
    with pytest.raises(DataError, match=line) as caught:
        batches(task)
    assert multiprocessing.active_children() == []
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert len(batches(task, torch.arange(7))) == 1  # what comes before can still be read


class Fatal(Shifted):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == 20 and get_worker_info() is not None:
            os._exit(1)
        return super().__getitem__(index)


def test_a_worker_that_is_killed_is_one_line() -> None:
    task = task_of(Fatal(), in_memory="never", workers=2)
    with pytest.raises(DataError, match=r"^a process that reads the data was killed") as caught:
        batches(task)
    assert "\n" not in str(caught.value)
    assert multiprocessing.active_children() == []


class Breaking(Streamed):
    breaks = False

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        for k, example in enumerate(super().__iter__()):
            if k == 15 and self.breaks:
                raise OSError("shard 3 is gone\nreally")
            yield example


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_that_breaks_is_one_line(workers: int) -> None:
    data = Breaking()
    task = task_of(DataLoader(data, batch_size=5, num_workers=workers), in_memory="never")
    data.breaks = True
    place = "" if workers else r"; test_loader_task\.py, line \d+"  # the text of a worker's error has none
    line = rf"^train cannot be read after 15 examples \(OSError: shard 3 is gone{place}\)$"
    with pytest.raises(DataError, match=line) as caught:
        batches(task)
    assert "\n" not in str(caught.value)
    assert multiprocessing.active_children() == []


def test_a_loader_that_stops_early_leaves_no_process() -> None:
    task = task_of(Shifted(augments=True), workers=2)
    run = stream(task, Pass("train", torch.arange(SIZE).split(4), augment=True))
    next(run)
    assert len(multiprocessing.active_children()) == 2
    run.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []
