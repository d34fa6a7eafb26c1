"""Tensors with many zeros, stored as their other values and one bit for each entry.

The tensor ``NAME`` becomes ``NAME.values``, its entries that are not zero in the order of memory, and
``NAME.bits``, which NumPy's ``packbits`` made of the mask of these entries. The shapes are in the file's
metadata, under ``sparse``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from .untrusted import parse_json, short

SHAPES = "sparse"
"""Key of the shapes in the metadata of a file."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_WORTH = 0.75
"""Share of the bytes below which a tensor is packed. Above it, files stay readable for tools that know only
plain tensors, and little is lost."""

_MOST_AXES = 8


def pack(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Pack the matrices and kernels that become smaller by a quarter or more.

    Args:
        tensors: Tensors on the CPU.

    Returns:
        The tensors to write, and their metadata; empty if no tensor is packed.
    """
    packed: dict[str, Tensor] = {}
    shapes = {}
    for name, tensor in tensors.items():
        if not _is_worth_it(tensor):
            packed[name] = tensor
            continue
        kept = tensor != 0
        packed[f"{name}.values"] = tensor[kept]
        packed[f"{name}.bits"] = torch.from_numpy(np.packbits(kept.numpy()))
        shapes[name] = list(tensor.shape)
    return packed, {SHAPES: json.dumps(shapes, separators=(",", ":"))} if shapes else {}


def unpack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """Give back the tensors that :func:`pack` got.

    A file claims at most 64 times the memory that it has: one bit for each entry.

    Args:
        tensors: The tensors of a file.
        metadata: Its metadata.

    Raises:
        ValueError: If the shapes, values and bits do not fit each other.
    """
    left = dict(tensors)
    if SHAPES not in metadata:
        return left
    shapes = parse_json(metadata[SHAPES])
    if not isinstance(shapes, dict):
        raise ValueError("the shapes of its packed tensors are no object")
    for name, shape in shapes.items():
        values, bits = left.pop(f"{name}.values", None), left.pop(f"{name}.bits", None)
        if values is None or bits is None or name in left:
            raise ValueError(f"the packed tensor {short(name)!r} is not there, or twice")
        left[name] = _unpacked(short(name), shape, values, bits)
    return left


def _unpacked(name: str, shape: object, values: Tensor, bits: Tensor) -> Tensor:
    is_shape = isinstance(shape, list) and 2 <= len(shape) <= _MOST_AXES
    if not (is_shape and all(type(size) is int and size > 0 for size in shape)):  # type: ignore[attr-defined]
        raise ValueError(f"the shape of the packed tensor {name!r} is not 2 to {_MOST_AXES} sizes above 0")
    assert isinstance(shape, list)
    if values.dtype not in FLOATS or bits.dtype != torch.uint8 or values.ndim != 1 or bits.ndim != 1:
        raise ValueError(f"the values or bits of the packed tensor {name!r} are of a wrong type or rank")
    entries = math.prod(shape)
    if len(bits) != -(-entries // 8):
        raise ValueError(f"the packed tensor {name!r} has {len(bits)} bytes of bits for {entries:,} entries")
    mask = np.unpackbits(bits.numpy())
    if (count := int(mask.sum())) != len(values) or mask[entries:].any():
        raise ValueError(f"the packed tensor {name!r} has {len(values)} values for {count} bits that are set")
    tensor = torch.zeros(entries, dtype=values.dtype)
    tensor[torch.from_numpy(mask[:entries]).bool()] = values
    return tensor.reshape(shape)


def _is_worth_it(tensor: Tensor) -> bool:
    if tensor.dtype not in FLOATS or not 2 <= tensor.ndim <= _MOST_AXES or not tensor.numel():
        return False
    size = int(tensor.count_nonzero()) * tensor.element_size() + -(-tensor.numel() // 8)
    overhead = 128  # of the second entry in the header, and of the shape
    return size + overhead < _WORTH * tensor.numel() * tensor.element_size()
