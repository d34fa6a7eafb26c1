"""Folders of small images of three classes, and a network trained on them for a moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from secateur.envs.io.tensor_files import write_tensors
from secateur.envs.tasks import ClassificationTask, SplitName, get_task

CLASSES = {"dark": 70, "medium": 120, "pale": 170}
"""Names of the classes, and the mean level of their pixels."""

SHADES = """
from support.folders import shade_network as build
"""


def write_shades(root: Path, parts: dict[str, int], noise: int = 60, mode: str = "RGB") -> Path:
    """Write that many 8x8 images of each class into each part; with little noise the classes are easy."""
    generator = np.random.default_rng(0)
    for part, count in parts.items():
        for name, level in CLASSES.items():
            (root / part / name).mkdir(parents=True)
            for k in range(count):
                pixels = generator.normal(level + generator.normal(0, noise / 4), noise, (8, 8, 3))
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.convert(mode).save(root / part / name / f"{k}.png")
    return root


def shade_network(num_classes: int = 3, in_channels: int = 3) -> nn.Sequential:
    """Build a network without batch norm, so that it depends on the normalisation of its images."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 64, num_classes),
    )


def train_shades(
    task: ClassificationTask, splits: tuple[SplitName, ...] = ("train",), steps: int = 60
) -> nn.Sequential:
    """Train the network on all images of some parts at a time."""
    torch.manual_seed(0)
    model = shade_network(in_channels=task.input_shape[0])
    batches = [task.batch(split, torch.arange(task.size(split))) for split in splits]
    inputs, labels = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
    scale: Tensor = inputs.std()  # one rate suits all normalisations if the first weights are scaled, too
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        task.loss(model(inputs / scale), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        model[0].weight /= scale
    return model.eval()


def trained_weights(
    root: Path, file: Path, splits: tuple[SplitName, ...] = ("train",), **options: object
) -> str:
    """Train the network on parts of a folder, and return the path of its weights."""
    task = get_task(str(root), root=root, **options)  # type: ignore[arg-type]
    write_tensors(file, train_shades(task, splits).state_dict())
    return str(file)
