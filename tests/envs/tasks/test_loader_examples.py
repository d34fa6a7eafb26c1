"""One's own data sets: dicts and tuples, images and masks, samplers, Hugging Face and webdataset."""

from __future__ import annotations

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
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from torchvision.transforms import v2

from secateur.envs.tasks import Accuracy, LoaderTask
from secateur.envs.tasks.passes import DataError
from support.own_data import (
    IMAGE,
    SIZE,
    SPLITS,
    Shifted,
    as_dicts,
    batches,
    noisy,
    picture,
    same,
    task_of,
)


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
