"""Digits to train on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from secateur.envs.tasks import ClassificationTask, get_task


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Networks this small gain nothing from a second thread, and lose much where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits() -> ClassificationTask:
    return get_task("digits", root=Path())


@pytest.fixture(scope="module")
def few(digits: ClassificationTask) -> ClassificationTask:
    """Keep 200 digits for training, so that an epoch costs nothing."""
    train = digits.splits["train"].take(torch.arange(0, 1000, 5))
    return dataclasses.replace(digits, splits={**digits.splits, "train": train})
