"""Image files of all kinds: read as training scripts do, or refused in one line that names the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from secateur.agent.cli import main
from secateur.envs.tasks import get_task, load_segmentation
from support.command_line import refusal

SIDE = 8


def folder_with(root: Path, write: Callable[[Path], None], suffix: str = "png") -> Path:
    """Write a folder of green images, one of which is special: the first cat of train."""
    for name in ("cat", "dog"):
        (root / "train" / name).mkdir(parents=True)
        for k in range(4):
            Image.new("RGB", (SIDE, SIDE), "green").save(root / "train" / name / f"b{k}.png")
    write(root / "train" / "cat" / f"a.{suffix}")
    return root


def cmyk(path: Path) -> None:
    Image.new("RGB", (SIDE, SIDE), "red").convert("CMYK").save(path, quality=100)


def palette_with_transparency(path: Path) -> None:
    image = Image.new("RGB", (SIDE, SIDE), "red").convert("P")
    image.save(path, transparency=bytes(range(256)))


def grey_with_alpha(path: Path) -> None:
    Image.new("LA", (SIDE, SIDE), (76, 3)).save(path)


def transparent(path: Path) -> None:
    Image.new("RGBA", (SIDE, SIDE), (255, 0, 0, 3)).save(path)


def animated(path: Path) -> None:
    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue", "green")]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def two_levels(path: Path) -> None:
    Image.new("1", (SIDE, SIDE), 1).save(path)


@pytest.mark.parametrize(
    ("write", "suffix", "colour"),
    [
        (cmyk, "jpg", (255, 0, 0)),
        (palette_with_transparency, "png", (255, 0, 0)),
        (grey_with_alpha, "png", (76, 76, 76)),
        (transparent, "png", (255, 0, 0)),
        (animated, "gif", (255, 0, 0)),
        (animated, "webp", (255, 0, 0)),
        (animated, "tiff", (255, 0, 0)),
        (two_levels, "png", (255, 255, 255)),
    ],
)
def test_an_image_of_another_mode_has_the_colours_of_its_first_frame(
    write: Callable[[Path], None], suffix: str, colour: tuple[int, int, int], tmp_path: Path
) -> None:
    task = get_task(str(folder_with(tmp_path, write, suffix)), root=tmp_path)
    images = np.concatenate([part.images.numpy() for part in task.splits.values()])
    away = np.abs(images.astype(int) - np.reshape(colour, (1, 3, 1, 1))).max((1, 2, 3))
    assert sorted(away)[0] <= 6


def test_an_image_is_not_turned_by_its_orientation_as_training_scripts_do_not_either(tmp_path: Path) -> None:
    def turned(path: Path) -> None:
        image, exif = Image.new("RGB", (SIDE, SIDE), "red"), Image.Exif()
        image.paste("blue", (0, 0, SIDE, SIDE // 2))
        exif[0x0112] = 3  # upside down
        image.save(path, exif=exif)

    task = get_task(str(folder_with(tmp_path, turned)), root=tmp_path)
    images = np.concatenate([part.images.numpy() for part in task.splits.values()])
    special = next(image for image in images if image[2].any())
    assert special[2, 0, 0] == 255


def empty(path: Path) -> None:
    path.touch()


def huge(path: Path) -> None:
    Image.new("1", (16_000, 16_000)).save(path)


def deep(path: Path) -> None:
    Image.fromarray(np.full((SIDE, SIDE), 40_000, np.uint16)).save(path)


def floating(path: Path) -> None:
    Image.new("F", (SIDE, SIDE), 0.5).save(path)


def cut_short(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:300])


BROKEN = [
    (empty, "png", "cannot be read as an image"),
    (cut_short, "jpg", "cannot be read as an image"),
    (cut_short, "png", "cannot be read as an image"),
    (huge, "png", "claims to have more pixels than can be opened safely"),
    (deep, "png", "has more than 8 bits per channel"),
    (floating, "tiff", "has more than 8 bits per channel"),
]


@pytest.mark.parametrize(("write", "suffix", "message"), BROKEN)
def test_an_image_that_cannot_be_used_is_named_in_one_line_by_every_verb(
    write: Callable[[Path], None],
    suffix: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    folder_with(tmp_path / "data", write, suffix)
    (tmp_path / "own.pt").touch()
    for verb in ("prune", "evaluate", "frontier", "train"):
        words = [verb, "demo", "--weights", "own.pt", "--data", "data"]
        assert f"a.{suffix} {message}" in refusal(words, capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "own.pt"]


@pytest.mark.parametrize(("write", "suffix", "message"), BROKEN)
def test_a_scene_that_cannot_be_used_is_named_in_one_line(
    write: Callable[[Path], None], suffix: str, message: str, tmp_path: Path
) -> None:
    for name in ("images", "masks"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for k in range(4):
            Image.new("L", (SIDE, SIDE), k % 2).save(tmp_path / "train" / name / f"{k}.png")
    write(tmp_path / "train" / "images" / f"a.{suffix}")
    Image.new("L", (64, 64) if write is cut_short else (SIDE, SIDE)).save(
        tmp_path / "train" / "masks" / "a.png"
    )
    with pytest.raises(ValueError, match=f"a.{suffix} {message}"):
        load_segmentation(tmp_path)


def test_images_are_the_same_however_many_threads_read_them(tmp_path: Path) -> None:
    root = folder_with(tmp_path, transparent)
    one, many = (get_task(str(root), root=root, workers=workers) for workers in (0, 3))
    for name, part in one.splits.items():
        assert (part.images == many.splits[name].images).all()
    with pytest.raises(ValueError, match="workers is -1; allowed is at least 0"):
        get_task(str(root), root=root, workers=-1)
    assert main(["evaluate", "demo", "--data", str(root), "--workers", "-1"]) == 2
