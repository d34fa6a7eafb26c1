"""A folder that is far larger than the memory allowed: the whole job ends all the same."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.limits import memory_of_a_step, run_within

SIDE, BATCH, GB = 128, 128, 10**9

NETWORK = """
from torch import nn

def build(num_classes, in_channels):
    layers = []
    for before, after in ((in_channels, 8), (8, 16), (16, 16)):
        layers += [nn.Conv2d(before, after, 3, stride=4, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes))
"""


def linked_folder(root: Path, parts: dict[str, int]) -> Path:
    """Write one JPEG for each of two classes, and links to it under that many names."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        one = root.parent / f"{name}.jpg"
        Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(one)
        for part, count in parts.items():
            (root / part / name).mkdir(parents=True)
            for k in range(count):
                os.link(one, root / part / name / f"{k}.jpg")
    return root


@pytest.mark.slow
def test_a_job_on_5_gb_of_pixels_ends_within_1_gb_beyond_the_imports_and_a_training_step(
    tmp_path: Path,
) -> None:
    (tmp_path / "own_nets.py").write_text(NETWORK)
    linked_folder(tmp_path / "data", {"train": 48_000, "test": 3_000})
    resident, data = memory_of_a_step("own_nets:build", SIDE, BATCH, tmp_path)
    words = ["prune", "own_nets:build", "--data", "data", "--dense-epochs", "0", "--effort", "quick"]
    status, peak, said = run_within(data + GB, [*words, "--epochs", "1", "--out", "run"], tmp_path)
    assert status == 0, said
    assert "images: read when they are needed (5.0 GB of pixels)" in said
    assert peak < resident + GB, f"{peak / 1e6:.0f} MB instead of {resident / 1e6:.0f} and 1,000"
    print(f"peak {peak / 1e6:.0f} MB, of a step {resident / 1e6:.0f} MB")
