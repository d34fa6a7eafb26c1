"""One's own data sets: of every kind, streamed and held, the same examples however they are read."""

# ruff: noqa: NPY002 - the global generators of users' data sets
from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from torchvision.transforms import v2

from secateur.envs.tasks import Accuracy, LoaderTask
from secateur.envs.tasks.passes import DataError, Pass, stream

SPLITS = ("train", "val", "test")
SIZE = 24
IMAGE = torch.rand(1, 4, 4)


class Shifted(Dataset[tuple[Tensor, int]]):
    """Examples whose pixels are their index, plus random numbers of all three generators if asked for."""

    def __init__(self, size: int = SIZE, augments: bool = False, fails_at: int = -1) -> None:
        self.size, self.augments, self.fails_at = size, augments, fails_at

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == self.fails_at:
            raise FileNotFoundError("image 7 is gone\nreally")
        noise = 0.0
        if self.augments:
            noise = random.random() + float(np.random.rand()) + float(torch.rand(()))
        return torch.full((1, 4, 4), float(index)) + noise, index % 3


class Streamed(IterableDataset[tuple[Tensor, int]]):
    """The same as a stream, which fails if it is read too far."""

    def __init__(self, size: int = SIZE, augments: bool = False, most: int = 10**9) -> None:
        self.data, self.most, self.epoch = Shifted(size, augments), most, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        for k in range(self.data.size):
            assert k < self.most, "read too far"
            yield self.data[(k + self.epoch) % self.data.size]


def task_of(train: Any, **settings: Any) -> LoaderTask:
    given = {"val": Shifted(), "test": Shifted(), "loss": F.cross_entropy, "metric": Accuracy(), **settings}
    return LoaderTask(train=train, **given)


def batches(task: LoaderTask, order: Tensor | None = None, **changes: Any) -> list[tuple[Tensor, Tensor]]:
    order = (
        torch.randperm(task.size("train"), generator=torch.Generator().manual_seed(0))
        if order is None
        else order
    )
    return list(
        stream(task, Pass("train", order.split(7), augment=True, **{"seed": 3, "epoch": 1, **changes}))
    )


def same(first: list[tuple[Tensor, Tensor]], second: list[tuple[Tensor, Tensor]]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b)
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def as_dicts(batch: list[Any]) -> dict[str, Tensor]:
    inputs, targets = zip(*batch, strict=True)
    return {"pixel_values": torch.stack(inputs), "labels": torch.tensor(targets), "length": torch.tensor(4)}


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


def noisy(image: Tensor) -> Tensor:
    return image + torch.rand(())


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


class Named(NamedTuple):
    label: int
    image: Tensor


@pytest.mark.parametrize(
    ("example", "keys"),
    [
        ({"image": 1, "label": 0}, {}),
        ({"img": 1, "fine_label": 0, "coarse_label": 2}, {}),
        ({"pixel_values": 1, "labels": 0, "idx": 3}, {}),
        ({"image": 1, "species": 0}, {}),
        ({"scan": 1, "grade": 0, "age": 4}, {"inputs": "scan", "targets": "grade"}),
        ((1, 0), {}),
        ((7, 1, 0), {"inputs": 1, "targets": 2}),
        ((0, 1), {"inputs": 1, "targets": 0}),
        (Named(0, 1), {}),  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_inputs_and_targets_are_found(example: Any, keys: Any) -> None:
    def filled(k: int) -> Any:
        values = [
            torch.full((1, 4, 4), float(k)) if v == 1 else v
            for v in (example.values() if isinstance(example, dict) else example)
        ]
        if isinstance(example, dict):
            return dict(zip(example, values, strict=True))
        return Named(*values) if isinstance(example, Named) else tuple(values)

    data = [filled(k) for k in range(6)]
    task = LoaderTask(train=data, val=data, test=data, loss=F.cross_entropy, metric=Accuracy(), **keys)
    inputs, targets = task.batch("train", torch.arange(6))
    assert inputs[:, 0, 0, 0].tolist() == list(range(6))
    assert targets.tolist() == [0] * 6


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"image": IMAGE, "label": 0, "mask": torch.zeros(4, 4).long()}, "keys 'image', 'label', 'mask'"),
        ({"a": IMAGE, "b": 0}, "train gives a dict with the keys 'a', 'b': say which are meant, such as"),
        ((IMAGE, 0, 1), r"a tuple of 3 \(Tensor, int, int\): say which"),
        (IMAGE, "train gives a Tensor; it has to give pairs"),
        (("cat.png", 0), "a str is no number, image, array or tensor"),
    ],
)  # fmt: skip
def test_what_is_open_or_unusable_is_one_line(example: Any, message: str) -> None:
    class Same(Dataset[Any]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            return example

    with pytest.raises((TypeError, ValueError), match=message) as caught:
        task_of(Same())
    assert "\n" not in str(caught.value)


def picture(k: int, size: int = 6) -> Image.Image:
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[0, 1] = [k, 0, 255]  # row 0, column 1
    return Image.fromarray(pixels)


@pytest.mark.parametrize("form", ["PIL", "array", "tensor"])
def test_images_become_channels_first_and_bytes_are_scaled(form: str) -> None:
    convert: Any = {"PIL": lambda x: x, "array": np.asarray, "tensor": v2.functional.pil_to_tensor}[form]
    data = [{"image": convert(picture(k)), "label": k % 2} for k in range(6)]
    task = LoaderTask(train=data, val=data, test=data, loss=F.cross_entropy, metric=Accuracy())
    inputs, _ = task.batch("train", torch.arange(6))
    assert inputs.shape == (6, 3, 6, 6)
    assert inputs.dtype == torch.float32
    assert inputs[5, :, 0, 1].tolist() == pytest.approx([5 / 255, 0.0, 1.0])


def test_images_of_many_sizes_need_a_transform() -> None:
    data = [(picture(k, 6 + k % 2), k % 2) for k in range(8)]
    settings: Any = {"val": data, "test": data, "loss": F.cross_entropy, "metric": Accuracy()}
    with pytest.raises(
        ValueError, match=r"\(3, 6, 6\) and \(3, 7, 7\): give transforms that make them equal"
    ):
        LoaderTask(train=data, **settings)
    crop = v2.CenterCrop(6)
    task = LoaderTask(train=data, train_transform=crop, eval_transform=crop, **settings)
    assert task.batch("train", torch.arange(8), augment=True)[0].shape == (8, 3, 6, 6)


def test_masks_are_transformed_with_their_images() -> None:
    data = [(picture(255), Image.fromarray(np.asarray(picture(1))[:, :, 0])) for _ in range(16)]
    flip = v2.RandomHorizontalFlip()
    task = LoaderTask(
        train=data, val=data, test=data, train_transform=flip, loss=F.cross_entropy, metric=Accuracy()
    )
    assert task.num_outputs == 2
    inputs, masks = task.batch(
        "train", torch.arange(16), augment=True, generator=torch.Generator().manual_seed(0)
    )
    assert masks.shape == (16, 6, 6)
    assert torch.equal(inputs[:, 0].long(), masks)
    assert {int(mask[0].argmax()) for mask in masks} == {1, 4}


def test_a_sampler_says_which_examples_belong_to_a_split() -> None:
    task = task_of(DataLoader(Shifted(), batch_size=5, sampler=SubsetRandomSampler([2, 11, 7])))
    assert task.batch("train", torch.arange(3))[0][:, 0, 0, 0].tolist() == [2, 7, 11]
    task = task_of(DataLoader(Shifted(), batch_size=5, sampler=[3, 3, 4]))
    assert task.size("train") == 2
    assert "its list gives 2 of 24 examples, some more than once" in " ".join(task.notes)
    weighted = WeightedRandomSampler([1.0] * SIZE, 10)
    task = task_of(DataLoader(Shifted(), batch_size=5, sampler=weighted))
    assert task.size("train") == SIZE
    assert "without the weights of its sampler" in " ".join(task.notes)
    few = task_of(DataLoader(Shifted(), batch_size=5, sampler=RandomSampler(Shifted(), num_samples=3)))
    assert few.size("train") == SIZE


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


@pytest.mark.parametrize("workers", [0, 2])
def test_an_example_that_fails_is_one_line_and_no_process_is_left(
    workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    task = task_of(Shifted(), in_memory="never", workers=workers)
    task._sources["train"].data.fails_at = 7
    line = r"example 7 of train cannot be read \(FileNotFoundError: image 7 is gone\)"
    with pytest.raises(DataError, match=line) as caught:
        batches(task)
    assert multiprocessing.active_children() == []
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert len(batches(task, torch.arange(7))) == 1  # what comes before can still be read


class Fatal(Shifted):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == 20 and torch.utils.data.get_worker_info() is not None:
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
    with pytest.raises(
        DataError, match=r"^train cannot be read after 15 examples \(OSError: shard 3 is gone\)$"
    ) as caught:
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


def test_the_settings_of_a_loader_are_kept() -> None:
    started: list[int] = []
    loader = DataLoader(Shifted(), batch_size=5, num_workers=1, worker_init_fn=started.append)
    source = task_of(loader, in_memory="never")._sources["train"]
    assert (source.workers, source.begin) == (1, started.append)
    with pytest.raises(ValueError, match="has a collate_fn of its own, and there are transforms"):
        task_of(DataLoader(Shifted(), collate_fn=as_dicts), train_transform=noisy)


def test_hugging_face_data_sets_are_read_and_streamed() -> None:
    datasets = pytest.importorskip("datasets")
    labels = datasets.ClassLabel(names=["cat", "dog", "eel"])
    features = datasets.Features({"img": datasets.Image(), "label": labels, "note": datasets.Value("string")})
    columns = {
        "img": [picture(k) for k in range(30)],
        "label": [k % 2 for k in range(30)],
        "note": ["x"] * 30,
    }
    data = datasets.Dataset.from_dict(columns, features=features)
    streamed = data.to_iterable_dataset(num_shards=3).shuffle(seed=1, buffer_size=8)
    transform = v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip()])
    settings: Any = {
        "val": data, "test": data.with_format("numpy"), "loss": F.cross_entropy, "metric": Accuracy(),
        "train_transform": transform,
    }  # fmt: skip
    for train in (data, streamed):
        for in_memory in ("auto", "never"):
            task = LoaderTask(train=train, in_memory=in_memory, workers=0, **settings)
            assert task.classes == ("cat", "dog", "eel")
            assert task.num_outputs == 3
            read = batches(task)
            assert sorted(
                int((x * 255).round().max(2)[0].max(1)[0][0]) for inputs, _ in read for x in inputs[:, :1]
            ) == list(range(30))
            assert same(read[2:], batches(task, first=2))
            assert {int(x[2, 0].argmax()) for inputs, _ in read for x in inputs} == {1, 4}


def test_webdataset_shards_are_streamed(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.ShardWriter(str(tmp_path / "%d.tar"), maxcount=10, verbose=0) as writer:
        for k in range(30):
            writer.write({"__key__": f"{k:03d}", "png": picture(k), "cls": k % 2})
    urls = [str(tmp_path / f"{k}.tar") for k in range(3)]

    def pipeline() -> Any:
        return webdataset.WebDataset(urls, shardshuffle=3, detshuffle=True, seed=0).decode("pil")

    data = pipeline().to_tuple("png", "cls")
    transform = v2.RandomHorizontalFlip()
    for train in (data, pipeline()):
        task = task_of(
            train,
            val=data,
            test=data,
            train_transform=transform,
            in_memory="never",
            sizes=dict.fromkeys(SPLITS, 30),
        )
        read = batches(task)
        found = sorted(round(float(image[0].max() * 255)) for inputs, _ in read for image in inputs)
        assert found == list(range(30))
        assert same(read, batches(task))
        assert same(read[3:], batches(task, first=3))
        assert not same(read, batches(task, epoch=2))
    (tmp_path / "1.tar").unlink()
    with pytest.raises(
        DataError, match=r"^train cannot be read after \d+ examples \(FileNotFoundError"
    ) as caught:
        batches(task)
    assert "\n" not in str(caught.value)


def test_tensor_data_sets_are_no_copies_of_labels() -> None:
    data = TensorDataset(torch.rand(8, 1, 4, 4), torch.arange(8) % 2)
    task = task_of(data, val=data, test=data)
    assert torch.equal(task.batch("val", torch.arange(8))[0], data.tensors[0])
