"""Read and write safetensors files, which hold tensors and no code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor

from .atomic_write import write_atomically
from .sparse_tensors import FLOATS, pack, unpack
from .untrusted import first_line, short

_LARGEST_HEADER = 2**20
"""Bytes of a safetensors header, enough for about ten thousand tensors."""


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Map the tensors of a safetensors file into memory; they are read on first use.

    Tensors that are packed, as many of their entries are zero, are unpacked.

    Returns:
        The tensors by name, and the file's metadata.

    Raises:
        ValueError: If the file is damaged, or its header is too large.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > _LARGEST_HEADER:
            raise ValueError(f"its header claims {length:,} bytes, allowed are {_LARGEST_HEADER:,}")
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            return unpack({name: file.get_tensor(name) for name in file.keys()}, metadata), metadata  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read as weights: {first_line(error)}") from error


def check_numbers(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor], source: str) -> None:
    """Refuse tensors of a wrong data type, and infinite or undefined numbers.

    Args:
        tensors: Tensors read from a file, by name.
        like: Tensors that they will be copied to, by the same names. For a floating-point tensor any
            floating-point type of 16, 32 or 64 bits is allowed, else only the same type.
        source: Name of the tensors in messages, plural.

    Raises:
        ValueError: If a tensor has a wrong type, or holds infinite or undefined numbers.
    """
    for name, tensor in tensors.items():
        expected = like[name].dtype
        is_float = expected in FLOATS
        if tensor.dtype not in (FLOATS if is_float else (expected,)):
            given, right = (str(dtype).removeprefix("torch.") for dtype in (tensor.dtype, expected))
            raise ValueError(f"{source} are of the wrong type: {short(name)} is {given} instead of {right}")
        if is_float and not is_finite(tensor):
            raise ValueError(f"{source} hold infinite or undefined numbers: {short(name)}")


def is_finite(tensor: Tensor) -> bool:
    """Return whether all numbers are finite, without the temporary tensors of ``torch.isfinite``."""
    return not tensor.numel() or all(math.isfinite(edge) for edge in tensor.detach().aminmax())


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None, *, packed: bool = False
) -> None:
    """Write a safetensors file atomically.

    Args:
        path: Path of the file.
        tensors: The tensors.
        metadata: Texts for the header.
        packed: Whether tensors with many zeros are packed; see :mod:`.sparse_tensors`.

    Raises:
        OSError: If it cannot be written, as the disk is full.
    """
    state = without_shared_memory(tensors)
    shapes: dict[str, str] = {}
    if packed:
        state, shapes = pack(state)
    texts = {**(metadata or {}), **shapes} or None

    def write(temporary: Path) -> None:
        try:
            save_file(state, temporary, metadata=texts)
        except SafetensorError as error:
            raise OSError(first_line(error)) from error

    write_atomically(path, write)


def packed_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    """Return the size of the file that :func:`write_tensors` writes of packed tensors, bytes.

    Args:
        tensors: The tensors.
        metadata: Texts for the header.
    """
    state, shapes = pack(without_shared_memory(tensors))
    return len(save(state, {**metadata, **shapes} or None))


def without_shared_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU, each in separate memory: safetensors refuses to write shared memory."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        copied = tensor.detach().cpu().contiguous()
        if copied.data_ptr() in seen:
            copied = copied.clone()
        seen.add(copied.data_ptr())
        state[name] = copied
    return state
