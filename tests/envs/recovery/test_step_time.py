"""A training is timed on what its data gives, a stream with few batches included."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.step_time import training_seconds
from secateur.envs.tasks import Accuracy, LoaderTask


class Streamed(IterableDataset[tuple[Tensor, int]]):
    """So many images, one after the other."""

    def __init__(self, images: int) -> None:
        self._images = images

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        for number in range(self._images):
            yield torch.full((3, 8, 8), number % 7 / 7), number % 3


@pytest.mark.parametrize(("images", "batch"), [(40, 8), (300, 64), (300, 128), (5, 64), (128, 128)])
def test_a_stream_of_few_batches_is_timed(images: int, batch: int) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    task = LoaderTask(
        train=Streamed(images),
        val=Streamed(9),
        test=Streamed(9),
        in_memory="never",
        workers=0,
        loss=F.cross_entropy,
        metric=Accuracy(),
    )
    config = RecoveryConfig(epochs=2, batch_size=batch)
    assert 0 < training_seconds(model, task, config) < 60
