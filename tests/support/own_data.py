# ruff: noqa: NPY002 - the global generators of users' data sets
"""What users give as data: sets and streams that say which example they read, and passes over them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from secateur.envs.tasks import Accuracy, LoaderTask
from secateur.envs.tasks.passes import Pass, stream

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


def noisy(image: Tensor) -> Tensor:
    return image + torch.rand(())


def picture(k: int, size: int = 6) -> Image.Image:
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[0, 1] = [k, 0, 255]  # row 0, column 1
    return Image.fromarray(pixels)
