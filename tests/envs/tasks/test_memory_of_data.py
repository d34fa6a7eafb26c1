"""What data will need is known from their headers, and refused before pixels are read."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2.functional import resize

from secateur.envs.tasks import R2, ClassificationTask, LoaderTask, get_task, load_segmentation
from support.processes import PROCESSES, report_peak, report_peak_of_loader

GB = 10**9


def claim(path: Path, width: int, height: int, colour: int = 2) -> None:
    """Write the header of a PNG of any size, and no pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)), (b"IDAT", b""))
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        content += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(content)


def claimed_folder(root: Path, width: int, height: int, count: int = 4) -> Path:
    for name in ("cat", "dog"):
        for k in range(count):
            claim(root / "train" / name / f"{k}.png", width, height)
    return root


def claimed_scenes(root: Path, width: int, height: int, count: int = 8) -> Path:
    for k in range(count):
        claim(root / "train" / "images" / f"{k}.png", width, height)
        claim(root / "train" / "masks" / f"{k}.png", width, height, colour=0)
    return root


def small_folder(root: Path, size: tuple[int, int] = (6, 4)) -> Path:
    for name, colour in (("cat", "red"), ("dog", "blue")):
        (root / "train" / name).mkdir(parents=True)
        for k in range(4):
            Image.new("RGB", size, colour).save(root / "train" / name / f"{k}.png")
    return root


@pytest.fixture
def two_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.envs.io.memory.available_memory", lambda: 2 * GB)


def refusal_of_folder(root: Path, image_size: int | None = None) -> str:
    with pytest.raises(ValueError, match=r"of memory, available are 2\.0 GB: give") as caught:
        get_task(str(root), root=root, image_size=image_size)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.usefixtures("two_gigabytes")
def test_a_folder_that_does_not_fit_is_refused_from_its_headers(tmp_path: Path) -> None:
    said = refusal_of_folder(claimed_folder(tmp_path, 9_000, 9_000))
    assert said.startswith(f"the 8 images of {tmp_path}, 9000x9000 pixels each, need ")
    assert "--image-size" in said
    assert float(said.split(" need ")[1].split(" GB")[0]) >= 8 * 3 * 0.081


@pytest.mark.usefixtures("two_gigabytes")
def test_scenes_that_do_not_fit_are_refused_from_their_headers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the 8 images of .* 9000x9000 .* available are 2\.0 GB: give"):
        load_segmentation(claimed_scenes(tmp_path, 9_000, 9_000))


@pytest.mark.usefixtures("two_gigabytes")
def test_an_image_size_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    assert "100000x100000 pixels each" in refusal_of_folder(small_folder(tmp_path), 100_000)
    with pytest.raises(
        ValueError, match=r"the 1,797 images of digits, 9000x9000 pixels each, need 145\.6 GB"
    ):
        get_task("digits", root=tmp_path, image_size=9_000, in_memory="always")
    with pytest.raises(
        ValueError, match=r"even 128 of the 1,797 images of digits, 9000x9000 pixels each, need"
    ):
        get_task("digits", root=tmp_path, image_size=9_000)


@pytest.mark.usefixtures("two_gigabytes")
def test_a_long_and_thin_image_is_refused_for_what_resizing_makes_of_it(tmp_path: Path) -> None:
    root = small_folder(tmp_path)
    claim(root / "train" / "cat" / "thin.png", 60_000, 1)
    assert "9 images" in refusal_of_folder(root)


def test_a_folder_that_fits_is_read_and_one_byte_less_is_too_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_folder(tmp_path, (300, 200))
    needed = 8 * 3 * 60_000 + (8 + 10) * 60_000
    monkeypatch.setattr("secateur.envs.io.memory.available_memory", lambda: needed)
    assert get_task(str(tmp_path), root=tmp_path, in_memory="always", workers=1).size("train") > 0
    monkeypatch.setattr("secateur.envs.io.memory.available_memory", lambda: needed - 1)
    with pytest.raises(ValueError, match=r"need 2\.5 MB"):
        get_task(str(tmp_path), root=tmp_path, in_memory="always", workers=1)


@pytest.mark.parametrize("side", [13_000, 100_000])
def test_an_image_of_more_pixels_than_pillow_opens_is_named_in_one_line(tmp_path: Path, side: int) -> None:
    folder, scenes = claimed_folder(tmp_path / "a", side, side), claimed_scenes(tmp_path / "b", side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as Pillow only warns of the smaller one
        for read in (lambda: get_task(str(folder), root=folder), lambda: load_segmentation(scenes)):
            with pytest.raises(
                ValueError, match=r"png claims to have more pixels than can be opened safely: make the image"
            ) as caught:
                read()
            assert "\n" not in str(caught.value)


def write_noise(root: Path, count: int, side: int, *, scenes: bool) -> None:
    for folder in ("images", "masks") if scenes else ("0", "1"):
        (root / "train" / folder).mkdir(parents=True)
    for k in range(count):
        image = Image.effect_noise((side, side), 10 + k % 50)
        if scenes:
            image.convert("RGB").save(root / "train" / "images" / f"{k}.bmp")
            image.point(lambda value: value % 3).save(root / "train" / "masks" / f"{k}.png")
        else:
            image.convert("RGB").save(root / "train" / str(k % 2) / f"{k}.bmp")


@pytest.mark.parametrize("scenes", [False, True], ids=["classes", "scenes"])
def test_pixels_are_in_memory_once_even_while_train_is_split(tmp_path: Path, scenes: bool) -> None:
    side, count = 400, 300
    small, large = tmp_path / "small", tmp_path / "large"
    for root, images in ((small, 20), (large, count)):
        write_noise(root, images, side, scenes=scenes)
    here, there = PROCESSES.Pipe()
    child = PROCESSES.Process(target=report_peak, args=(small, large, scenes, there))
    child.start()
    assert here.poll(120)
    pixels = count * side * side * (4 if scenes else 3)
    assert 0.8 * pixels < here.recv() < 1.4 * pixels
    child.join()


class Numbers(Dataset[tuple[Tensor, Tensor]]):
    """Examples of 4 kB that count how many of them were read."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.read = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.read += 1
        return torch.zeros(1, 32, 32), torch.zeros(1)


def task_of(train: object, **settings: Any) -> LoaderTask:
    few = [(torch.zeros(2, 1, 32, 32), torch.zeros(2, 1))]
    return LoaderTask(train=train, val=few, test=few, loss=F.mse_loss, metric=R2(), **settings)  # type: ignore[arg-type]


@pytest.mark.usefixtures("two_gigabytes")
def test_a_loader_that_does_not_fit_is_streamed_or_refused_after_a_few_examples() -> None:
    data = Numbers(10**6)
    loader = DataLoader(data, batch_size=10)
    assert "Streamed: train 4.1 GB" in task_of(loader).notes[0]
    with pytest.raises(ValueError, match=r"the 1,000,000 examples of train need 4\.1 GB of memory"):
        task_of(loader, in_memory="always")
    assert data.read < 100


def test_examples_are_held_where_they_take_a_quarter_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 100 * 4 * (32 * 32 + 1)
    loader = DataLoader(Numbers(100), batch_size=10)
    monkeypatch.setattr("secateur.envs.io.memory.available_memory", lambda: 4 * size)
    assert "In memory: train" in task_of(loader).notes[0]
    monkeypatch.setattr("secateur.envs.io.memory.available_memory", lambda: 4 * size - 1)
    assert "Streamed: train" in task_of(loader).notes[0]
    assert "In memory: train" in task_of(loader, in_memory="always").notes[0]


@pytest.mark.parametrize("kind", ["examples", "loader", "iterator"])
def test_examples_that_are_read_into_memory_are_there_once(kind: str) -> None:
    here, there = PROCESSES.Pipe()
    child = PROCESSES.Process(target=report_peak_of_loader, args=(kind, there))
    child.start()
    assert here.poll(120)
    peak, values = here.recv()
    assert 3.9 * values < peak < 4.6 * values
    child.join()


def test_a_loader_without_an_end_is_refused_when_it_no_longer_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.envs.io.memory.available_memory", lambda: 10**6)

    def forever() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield torch.zeros(10, 1, 32, 32), torch.zeros(10, 1)

    with pytest.raises(
        ValueError, match=r"the first 250 examples of train, to be joined, need 1\.0 MB of memory"
    ):
        task_of(forever())


def test_memory_that_runs_out_is_not_taken_for_batches_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(parts: object) -> Tensor:
        return torch.empty(2**50, dtype=torch.uint8)

    monkeypatch.setattr(torch, "cat", fail)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        task_of([(torch.zeros(2, 1, 32, 32), torch.zeros(2, 1))])


def test_known_data_are_resized_as_if_all_at_once(tmp_path: Path, digit_task: ClassificationTask) -> None:
    for name, part in get_task("digits", root=tmp_path, image_size=224).splits.items():
        assert torch.equal(part.images, resize(digit_task.splits[name].images, [224, 224], antialias=True))
