"""The same seed on the same machine gives the same files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from secateur.agent.cli import main

WORDS = ["prune", "demo", "--evaluations", "16", "--search-images", "32", "--dense-epochs", "1"]


@pytest.mark.usefixtures("without_clock")
@pytest.mark.parametrize(
    "words",
    [
        ["--epochs", "1"],
        pytest.param(["--epochs", "1", "--procedure", "layerwise"], marks=pytest.mark.slow),
    ],
)
def test_the_same_seed_leaves_the_same_files_whatever_was_drawn_before(
    words: list[str], tmp_path: Path
) -> None:
    left = []
    for name in ("one", "other"):
        torch.rand(3)  # of torch's own generator, which is not the run's
        assert main([*WORDS, *words, "--out", str(tmp_path / name)]) == 0
        files = [*(tmp_path / name).glob("**/*.safetensors"), tmp_path / name / "plan.json"]
        left.append({file.relative_to(tmp_path / name): file.read_bytes() for file in files})
    assert len(left[0]) >= 4
    assert left[0] == left[1]
