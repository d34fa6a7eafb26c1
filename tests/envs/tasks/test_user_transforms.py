"""Transforms of the user's own: what they get, what they give, and what is said of wrong ones."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from secateur.agent.cli import main
from secateur.envs.tasks import get_task, load_segmentation
from secateur.envs.tasks.passes import DataError, Pass, stream
from support.command_line import refusal
from support.folders import SHADES, write_shades

EVALUATION = v2.Compose([v2.Resize((8, 8)), v2.ToDtype(torch.float32, scale=True)])
TRAINING = v2.Compose([v2.RandomResizedCrop(8), v2.ToDtype(torch.float32, scale=True)])

NAMED = """
import torch
from torchvision.transforms import v2

plain = v2.Compose([v2.ToDtype(torch.float32, scale=True)])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder of images of several sizes."""
    write_shades(tmp_path, {"train": 10, "test": 4})
    Image.new("RGB", (20, 30), "red").save(tmp_path / "train" / "dark" / "0.png")
    return tmp_path


def passed(task: Any, **options: int) -> list[Tensor]:
    batches = torch.arange(task.size("train")).split(6)
    return [images for images, _ in stream(task, Pass("train", batches, augment=True, seed=1, **options))]


def test_transforms_replace_resizing_augmentation_and_normalisation(folder: Path) -> None:
    task = get_task(str(folder), root=folder, train_transform=TRAINING, eval_transform=EVALUATION)
    images, labels = task.batch("test", torch.arange(task.size("test")))
    assert task.input_shape == (3, 8, 8)
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    stored = np.asarray(Image.open(folder / "test" / "dark" / "0.png"), np.float32).transpose(2, 0, 1) / 255
    torch.testing.assert_close(images[0], torch.from_numpy(stored))
    assert "transforms of the user's own: Compose for training" in "".join(task.notes)


def test_a_random_transform_gives_the_same_images_whoever_reads_them(folder: Path) -> None:
    def drawn(image: Tensor) -> Tensor:
        noise = random.random() + float(np.random.rand()) + torch.rand(3, 8, 8)  # noqa: NPY002
        return v2.functional.resize(image, [8, 8]).float() + noise

    tasks = [
        get_task(str(folder), root=folder, train_transform=drawn, eval_transform=EVALUATION, workers=workers)
        for workers in (0, 2)
    ]
    before = torch.get_rng_state(), random.getstate()
    one, other = (torch.cat(passed(task)) for task in tasks)
    assert torch.equal(one, other)
    assert torch.equal(torch.cat(passed(tasks[1], first=2)), one[12:])
    assert not torch.equal(torch.cat(passed(tasks[0], epoch=1)), one)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_masks_are_transformed_with_their_images(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for k in range(12):
            pixels = np.full((10, 12 + k % 2, 3), 100, np.uint8)
            pixels[:, :6] = 1
            (Image.fromarray(pixels) if name == "images" else Image.fromarray(pixels[..., 0] % 2)).save(
                tmp_path / "train" / name / f"{k}.png"
            )
    both = v2.Compose([v2.Resize((8, 8)), v2.ToDtype({tv_tensors.Image: torch.float32, "others": None})])
    task = load_segmentation(tmp_path, eval_transform=both)
    images, masks = task.batch("train", torch.arange(4))
    assert images.shape == (4, 3, 8, 8)
    assert masks.dtype == torch.int64
    assert masks[:, :, 0].eq(1).all()
    assert masks[:, :, -1].eq(0).all()


def no_tensor(image: Tensor) -> Any:
    return v2.functional.to_pil_image(image)


def bytes_still(image: Tensor) -> Tensor:
    return v2.functional.resize(image, [8, 8])


def own_size(image: Tensor) -> Tensor:
    return image.float()


def failing(image: Tensor) -> Tensor:
    raise KeyError("mean")


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (no_tensor, "gives a Image; it has to give a float32 tensor"),
        (bytes_still, r"gives a tensor of \(3, 8, 8\) uint8; it has to give a float32"),
        (own_size, r"gives a tensor of .* float32, others have \(3, \d+, \d+\); it has to give one shape"),
        (failing, "fails: KeyError: 'mean'"),
    ],
)
def test_a_transform_that_gives_something_else_is_one_line_before_anything_runs(
    transform: Any, said: str, folder: Path
) -> None:
    with pytest.raises(ValueError, match=rf"{transform.__name__}, given .*\.png, {said}") as caught:
        get_task(str(folder), root=folder, eval_transform=transform)
    assert "\n" not in str(caught.value)


def test_a_transform_that_fails_later_is_one_line_too(folder: Path) -> None:
    task = get_task(str(folder), root=folder, eval_transform=EVALUATION, workers=1)
    odd = Path(task.splits["train"].described(9))
    Image.new("RGB", (2, 2)).save(odd.with_suffix(".gif"))
    odd.unlink()
    odd.with_suffix(".gif").rename(odd)
    assert len(passed(task)) == 5  # it can be read all the same
    odd.write_text("no image")
    with pytest.raises(DataError, match="cannot be read as an image"):
        passed(task)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"train_transform": EVALUATION}, "give --eval-transform"),
        ({"eval_transform": EVALUATION, "image_size": 8}, "replace --image-size"),
        ({"eval_transform": EVALUATION, "augment": "flip"}, "replace --augment"),
        ({"eval_transform": EVALUATION, "normalisation": "half"}, "replace --normalisation"),
        ({"eval_transform": EVALUATION, "in_memory": "always"}, "leave out --in-memory always"),
        ({"eval_transform": "nowhere:thing"}, "cannot be imported"),
        ({"eval_transform": 3}, "cannot be called"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    options: dict[str, Any], said: str, folder: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        get_task(str(folder), root=folder, **options)


def test_a_job_takes_transforms_by_name_and_its_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_transforms_of_test.py").write_text(NAMED)
    (tmp_path / "own_nets.py").write_text(SHADES)
    write_shades(tmp_path / "data", {"train": 20, "test": 10})
    words = ["prune", "own_nets:build", "--data", "data", "--method", "l2-uniform", "--epochs", "1"]
    words += ["--dense-epochs", "1", "--out", "run", "--eval-transform"]
    assert "has no transform 'plane', did you mean 'plain'?" in refusal(
        [*words, "own_transforms_of_test:plane"], capsys
    )
    assert main([*words, "own_transforms_of_test:plain"]) == 0
    text = capsys.readouterr()
    assert "transforms of the user's own: own_transforms_of_test:plain for training" in text.err
    assert "own_transforms_of_test:plain" in (tmp_path / "run" / "report.json").read_text()
    assert main(["evaluate", "run", "--json"]) == 0
