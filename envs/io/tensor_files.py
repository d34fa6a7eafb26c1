"""Files of tensors, in the format of safetensors: no code, and nothing that is no number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .atomic_write import write_atomically
from .untrusted import first_line, short

_LARGEST_HEADER = 2**20
"""Bytes that name the tensors of a safetensors file: some ten thousand of them."""


_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Map the tensors of a safetensors file into memory: nothing is read before it is used.

    Returns:
        The tensors, and what the file says beside them.

    Raises:
        ValueError: If the file is damaged, or its header too large.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > _LARGEST_HEADER:
            raise ValueError(f"its header claims {length:,} bytes, allowed are {_LARGEST_HEADER:,}")
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read as weights: {first_line(error)}") from error


def check_numbers(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor], source: str) -> None:
    """Refuse tensors of a wrong type, and numbers that are none.

    Args:
        tensors: What was read.
        like: What it is for, by the same names. Where these are floating, any type of 16, 32 or 64 bits is
            right, else only the same.
        source: Names the tensors in messages.

    Raises:
        ValueError: If one is of another type, or holds infinite or undefined numbers.
    """
    for name, tensor in tensors.items():
        wanted = like[name].dtype
        floating = wanted in _FLOATS
        if tensor.dtype not in (_FLOATS if floating else (wanted,)):
            found, right = (str(dtype).removeprefix("torch.") for dtype in (tensor.dtype, wanted))
            raise ValueError(f"{source} are of the wrong type: {short(name)} is {found} instead of {right}")
        if floating and not is_finite(tensor):
            raise ValueError(f"{source} hold infinite or undefined numbers: {short(name)}")


def is_finite(tensor: Tensor) -> bool:
    """Say whether all numbers are finite, without the copies that ``isfinite`` makes."""
    return not tensor.numel() or all(math.isfinite(edge) for edge in tensor.detach().aminmax())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file aside, then rename it."""
    write_atomically(path, lambda aside: save_file(without_shared_memory(tensors), aside, metadata=metadata))


def without_shared_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
