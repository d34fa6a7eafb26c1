"""Files that are whole or not there at all."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then rename it to ``path`` in one step."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file; tensors that share memory are written once each, as the format wants."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        copied = tensor.detach().cpu().contiguous()
        if copied.data_ptr() in seen:
            copied = copied.clone()
        seen.add(copied.data_ptr())
        state[name] = copied
    write_aside(path, lambda aside: save_file(state, aside, metadata=metadata))
