"""Files are the user's own: they have the permissions that any new file of the user has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from secateur.envs.io.atomic_write import write_atomically
from secateur.envs.io.tensor_files import write_tensors
from secateur.envs.recovery.checkpoint import Checkpoint

TENSORS = {"weight": torch.ones(3)}

WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: write_atomically(path, lambda aside: aside.write_text("all")),
    "safetensors, which makes private files": lambda path: write_atomically(
        path, lambda aside: save_file(TENSORS, aside)
    ),
    "tensors": lambda path: write_tensors(path, TENSORS),
    "a checkpoint": lambda path: Checkpoint(path).save(TENSORS),
}


@pytest.fixture(params=[0o022, 0o027, 0o077, 0o002], ids=oct)
def mode(request: pytest.FixtureRequest) -> Iterator[int]:
    """Set the umask, and give the mode of new files."""
    before = os.umask(request.param)
    yield 0o666 & ~request.param
    os.umask(before)


@pytest.mark.parametrize("write", WRITERS.values(), ids=list(WRITERS))
def test_a_file_may_be_read_by_those_who_may_read_the_users_files(
    write: Callable[[Path], object], mode: int, tmp_path: Path
) -> None:
    for _ in range(2):  # a new file, and one that is written again
        write(tmp_path / "file")
        assert (tmp_path / "file").stat().st_mode & 0o777 == mode
