"""Files that are whole or not there at all."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from safetensors.torch import save_file
from torch import Tensor

T = TypeVar("T")


def write_aside(path: Path, write: Callable[[Path], T]) -> T:
    """Let ``write`` fill a file beside ``path``, then rename it to ``path`` in one step.

    Returns:
        What ``write`` returned.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        result = write(aside)
        aside.replace(path)
        return result
    finally:
        aside.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file aside, then rename it."""
    write_aside(path, lambda aside: save_file(unshared(tensors), aside, metadata=metadata))


def unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring tensors to the CPU, each in memory of its own: safetensors refuses to write shared memory."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        copied = tensor.detach().cpu().contiguous()
        if copied.data_ptr() in seen:
            copied = copied.clone()
        seen.add(copied.data_ptr())
        state[name] = copied
    return state
