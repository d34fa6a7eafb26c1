"""Where images are kept is decided from their headers, and very many files take little memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from secateur.envs.tasks import get_task, load_segmentation
from secateur.envs.tasks.images.file_list import FileList, images_under
from secateur.envs.tasks.images.sources import Resized
from secateur.envs.tasks.passes import DataError, Pass, stream
from support.folders import write_shades

MB = 10**6


@pytest.mark.parametrize(("available", "is_held"), [(60 * MB, True), (1 * MB, False)])
def test_images_are_held_in_memory_where_they_fit_by_far_and_it_is_said(
    available: int, is_held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_shades(tmp_path, {"train": 400, "test": 4})  # 233 kB, and little to decode
    monkeypatch.setattr("secateur.envs.io.memory.available_memory", lambda: available)
    monkeypatch.setattr("secateur.envs.tasks.images.storage.BY_FAR", 5)
    task = get_task(str(root), root=root, workers=1)
    assert task.splits["train"].source.is_resident == is_held
    expected = "held in memory (232.7 kB)" if is_held else "read when they are needed (232.7 kB of pixels)"
    assert task.storage.startswith(expected)


def test_a_known_data_set_is_resized_when_it_is_read_where_it_does_not_fit_by_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = get_task("digits", root=tmp_path, image_size=32)
    monkeypatch.setattr("secateur.envs.io.memory.available_memory", lambda: 2 * MB)
    read = get_task("digits", root=tmp_path, image_size=32, workers=1)
    assert isinstance(read.splits["train"].source, Resized)
    passed = Pass("test", torch.arange(read.size("test")).split(100), augment=True, seed=3)
    for one, other in zip(stream(held, passed), stream(read, passed), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_a_known_data_set_cannot_be_left_on_disk(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="digits is read into memory as a whole"):
        get_task("digits", root=tmp_path, in_memory="never")
    with pytest.raises(ValueError, match="no value of in_memory 'allways', did you mean 'always'"):
        get_task("digits", root=tmp_path, in_memory="allways")


def test_a_list_of_files_takes_the_bytes_of_their_names_and_little_more() -> None:
    names = [f"train/n{k // 1000:08d}/n{k // 1000:08d}_{k}.JPEG" for k in range(20_000)]
    files = FileList.of(Path("/data"), names)
    assert len(files.names) + files.ends.nbytes < 20_000 * 50
    assert [str(files[k]) for k in (0, 1, 19_999)] == [f"/data/{names[k]}" for k in (0, 1, 19_999)]


def test_images_of_sub_folders_are_found_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.JPG", "a.jpeg", ".hidden.png", "notes.txt", "a/ü.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert images_under(tmp_path) == ["a/z.JPG", "a/ü.png", "a.jpeg", "b.png"]


def test_an_image_whose_header_was_not_read_is_resized_like_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_shades(tmp_path, {"train": 10, "test": 10})
    monkeypatch.setattr("secateur.envs.tasks.images.image_files.MOST_HEADERS", 2)
    Image.new("L", (40, 20), 9).save(root / "train" / "pale" / "3.png")
    task = get_task(str(root), root=root)
    assert task.input_shape == (3, 8, 8)
    assert (task.splits["train"].images == 9).flatten(1).all(1).sum() == 1
    assert "The headers of 2 of the 60 images were read" in "".join(task.notes)


def test_a_label_that_is_no_class_is_named_when_its_mask_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("images", "masks"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for k in range(20):
            Image.fromarray(np.full((8, 8), k // 4 % 2, np.uint8)).save(
                tmp_path / "train" / name / f"{k:02d}.png"
            )
    monkeypatch.setattr("secateur.envs.tasks.images.segmentation_folder.MOST_MASKS", 5)
    task = load_segmentation(tmp_path, in_memory="never", balance=True)
    assert task.classes == ("0", "1")
    assert "Classes were counted in 5 masks" in "".join(task.notes)
    path = Path(task.splits["train"].described(0)).parents[1] / "masks"
    path /= Path(task.splits["train"].described(0)).name
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(path)
    with pytest.raises(DataError, match=f"the mask {path} has the label 7, but there are 2 classes"):
        task.batch("train", torch.arange(2))
