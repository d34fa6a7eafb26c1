"""Images from disk are the same as from memory, whoever reads them, and faults stay in one line."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from secateur.envs.tasks import ClassificationTask, SegmentationTask, get_task, load_segmentation, measure
from secateur.envs.tasks.passes import DataError, Pass, stream
from support.folders import shade_network, write_shades

Task = ClassificationTask | SegmentationTask


def noise(root: Path, parts: dict[str, int], side: int = 12) -> Path:
    """Write JPEGs of noise of two classes, of sizes that differ."""
    generator = np.random.default_rng(0)
    for part, count in parts.items():
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for k in range(count):
                pixels = generator.integers(0, 256, (side, side + k % 3, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{k}.jpg")
    return root


def scenes(root: Path) -> Path:
    """Write images with masks of three classes."""
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for name, channels in (("images", (3,)), ("masks", ())):
            (root / part / name).mkdir(parents=True)
            for k in range(12):
                pixels = generator.integers(0, 256 if channels else 3, (10, 12, *channels), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{k}.png")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise(tmp_path_factory.mktemp("noise"), {"train": 30, "test": 10})


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenes(tmp_path_factory.mktemp("scenes"))


def classes_of(root: Path, in_memory: str, workers: int = 0) -> ClassificationTask:
    return get_task(
        str(root), root=root, image_size=8, augment="flip-crop", in_memory=in_memory, workers=workers
    )


def scenes_of(root: Path, in_memory: str, workers: int = 0) -> SegmentationTask:
    return load_segmentation(root, augment="flip-crop", in_memory=in_memory, workers=workers)


def batches_of(task: Task, batch_size: int, **options: int) -> list[tuple[Tensor, Tensor]]:
    order = torch.randperm(task.size("train"), generator=torch.Generator().manual_seed(0))
    passed = Pass("train", order.split(batch_size), augment=True, seed=5, epoch=2, **options)
    return list(stream(task, passed))


def joined(batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, targets = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
    return images, targets


@pytest.mark.parametrize("kind", ["classes", "scenes"])
def test_images_are_the_same_from_memory_and_disk_with_any_workers_batches_ranks_and_after_a_stop(
    kind: str, folder: Path, views: Path
) -> None:
    open_task, root = (classes_of, folder) if kind == "classes" else (scenes_of, views)
    images, targets = joined(batches_of(open_task(root, "always"), 8))  # type: ignore[operator]
    assert images.dtype == torch.float32
    for workers in (0, 1, 3):
        task = open_task(root, "never", workers)  # type: ignore[operator]
        for batch_size in (8, 5) if workers == 1 else (8,):
            found = joined(batches_of(task, batch_size))
            assert torch.equal(found[0], images)
            assert torch.equal(found[1], targets)
        late = joined(batches_of(task, 8, first=1))
        assert torch.equal(late[0], images[8:])
        shares = [batches_of(task, 8, rank=rank, ranks=2) for rank in range(2)]
        both = joined([batch for pair in zip(*shares, strict=True) for batch in pair])
        assert torch.equal(both[0], images)
        assert torch.equal(both[1], targets)


@pytest.mark.parametrize("kind", ["classes", "scenes"])
def test_bounded_reads_are_the_same_from_memory_and_disk(kind: str, folder: Path, views: Path) -> None:
    open_task, root = (classes_of, folder) if kind == "classes" else (scenes_of, views)
    held, read = (open_task(root, in_memory, 2) for in_memory in ("always", "never"))  # type: ignore[operator]
    indices = torch.tensor([7, 0, 3])
    for augment in (False, True):
        one, other = (
            task.batch("train", indices, augment=augment, generator=torch.Generator().manual_seed(3))
            for task in (held, read)
        )
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    assert held.mean == read.mean


def test_another_epoch_and_another_seed_give_other_views(folder: Path) -> None:
    task = classes_of(folder, "always")
    indices = (torch.arange(task.size("train")),)
    images = [
        next(stream(task, Pass("train", indices, augment=True, seed=seed, epoch=epoch)))[0]
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_reading_ahead_leaves_the_global_generators_alone(folder: Path) -> None:
    task = classes_of(folder, "never", 1)
    before = torch.get_rng_state()
    batches_of(task, 8)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_statistics_and_measurements_of_streamed_data_are_those_of_data_in_memory(tmp_path: Path) -> None:
    root = write_shades(tmp_path, {"train": 20, "test": 10})
    held, read = (
        get_task(str(root), root=root, normalisation="data", in_memory=in_memory, workers=1)
        for in_memory in ("always", "never")
    )
    assert (held.mean, held.std) == (read.mean, read.std)
    model = shade_network()
    assert measure(model, held, "test").loss == measure(model, read, "test").loss


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_vanishes_or_is_cut_short_during_a_pass_is_one_line(
    workers: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = noise(tmp_path, {"train": 20, "test": 4})
    task = classes_of(root, "never", workers)
    path = Path(task.splits["train"].described(7))
    damages: list[tuple[Callable[[], object], str]] = [
        (lambda: path.write_bytes(path.read_bytes()[:200]), "cannot be read as an image: repair"),
        (path.unlink, "is no longer there: put it back"),
    ]
    for damage, said in damages:
        damage()
        with pytest.raises(DataError, match=f"{re.escape(str(path))} {said}") as caught:
            batches_of(task, 4)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert not multiprocessing.active_children()


def test_no_process_is_left_when_a_pass_is_given_up(folder: Path) -> None:
    task = classes_of(folder, "never", 2)
    batches = stream(task, Pass("train", torch.arange(task.size("train")).split(4)))
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_is_one_line(folder: Path) -> None:
    task = classes_of(folder, "never", 1)
    batches = stream(task, Pass("train", torch.arange(task.size("train")).split(2)))
    next(batches)
    (process,) = multiprocessing.active_children()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(DataError, match="a process that reads the data was killed") as caught:
        list(batches)
    assert "\n" not in str(caught.value)


def test_a_batch_too_large_for_shared_memory_is_read_by_the_process_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secateur.envs.tasks.read_ahead._shared_memory", lambda: 100)
    batches = stream(classes_of(folder, "never", 2), Pass("train", [torch.arange(4), torch.arange(4)]))
    next(batches)
    assert not multiprocessing.active_children()


def test_train_with_val_has_the_examples_of_both(folder: Path) -> None:
    for in_memory in ("always", "never"):
        task = classes_of(folder, in_memory)
        both = task.with_val_in_train()
        assert both.size("train") == task.size("train") + task.size("val")
        assert both.splits["train"].source is task.splits["train"].source
        expected = torch.cat([task.splits["train"].images, task.splits["val"].images])
        assert torch.equal(both.splits["train"].images, expected)
        assert both.size("val") == task.size("val")


def test_splits_of_a_source_share_its_memory_on_every_device(digit_task: ClassificationTask) -> None:
    moved = digit_task.to("cpu")
    sources = {id(part.source) for part in moved.splits.values()}
    assert len(sources) == 1
    part = dataclasses.replace(digit_task).splits["train"]
    assert part.take(torch.arange(3)).source is part.source
