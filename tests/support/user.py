"""What a user of the pages has: a network, its weights, and small data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

NETS = """
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.classifier = nn.Linear(8, num_classes)

    def forward(self, images):
        x = self.norm1(self.conv1(images)).relu()
        x = self.norm2(self.conv2(x)).relu()
        return self.classifier(x.mean((2, 3)))


def build(num_classes=2):
    return Net(num_classes)
"""
CLASSES = ("cat", "dog")
SPLITS = {"train": 24, "val": 12, "test": 12}
_MEAN, _STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def make_user(root: Path) -> None:
    """Write ``mypackage/nets.py``, ``my-images``, ``my-scenes``, ``data`` and ``mine.pt`` to a folder."""
    (root / "mypackage").mkdir(parents=True)
    (root / "mypackage" / "__init__.py").touch()
    (root / "mypackage" / "nets.py").write_text(NETS)
    draw = np.random.default_rng(0)
    inputs, targets = [], []
    for split, number in SPLITS.items():
        for label, name in enumerate(CLASSES):
            folder = root / "my-images" / split / name
            folder.mkdir(parents=True)
            pixels = draw.integers(0, 120, (number, 16, 16, 3))
            pixels[..., label] += 90
            for k, image in enumerate(pixels.astype(np.uint8)):
                Image.fromarray(image).save(folder / f"{k}.png")
            if split == "train":
                inputs.append(torch.from_numpy(pixels).float() / 255)
                targets += [label] * number
        _write_scenes(root / "my-scenes" / split, draw)
        _write_regression(root / "data" / f"{split}.pt", number)
    images = ((torch.cat(inputs) - _MEAN) / _STD).permute(0, 3, 1, 2)
    torch.save(_trained(images, torch.tensor(targets)), root / "mine.pt")


def _trained(images: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    code: dict[str, object] = {}
    exec(NETS, code)  # as the user's module
    model = code["build"]()  # type: ignore[operator]
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(30):
        optimiser.zero_grad()
        F.cross_entropy(model(images), targets).backward()
        optimiser.step()
    return dict(model.state_dict())


def _write_scenes(folder: Path, draw: np.random.Generator) -> None:
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for k in range(4):
        mask = draw.integers(0, 3, (4, 4), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(mask).save(folder / "masks" / f"{k}.png")
        Image.fromarray((mask[..., None] * [90, 40, 10] + 20).astype(np.uint8)).save(
            folder / "images" / f"{k}.png"
        )


def _write_regression(file: Path, number: int) -> None:
    file.parent.mkdir(exist_ok=True)
    inputs = torch.rand(4 * number, 3, 16, 16)
    torch.save((inputs, inputs.mean((2, 3))[:, :2]), file)
