"""Find the tensors in anything that a network gives back or holds: containers, dataclasses, plain objects."""

import contextlib
import datetime
import enum
import functools
import logging
import re
import types
from collections import deque
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Part = tuple[str, Any]
"""What follows the name of an object in the path to one of its parts, such as ``.logits``; and that part."""

ATOMS = (
    *(types.NoneType, bool, int, float, complex, str, bytes, bytearray, range, slice, Decimal, re.Pattern),
    *(types.EllipsisType, types.NotImplementedType, types.ModuleType, types.CodeType, type, enum.Enum),
    *(datetime.date, datetime.time, datetime.timedelta, logging.Logger, np.generic, np.dtype),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
)
"""Kinds of values that hold no tensor."""

OF_ANY_MODULE = frozenset(vars(nn.Module()))
"""Names of the attributes that torch gives every module."""

CODE = types.FunctionType | types.BuiltinFunctionType | types.ModuleType | type

_HEAP_TYPE, _NOT_CALLABLE = 1 << 9, 1 << 7
"""CPython's flags of types that are not built in, and of those that only C code makes objects of."""


def tensors_in(value: Any, name: str = "the network's output") -> list[Tensor]:
    """Find every tensor in a value, in an order that is the same for equal networks.

    NumPy arrays count as tensors. Opened are containers, dataclasses, plain objects, and functions with what
    they hold. Parameters and buffers of a module in the value do not count.

    Args:
        value: Anything that a network gives back or takes.
        name: Name of the value in messages.

    Raises:
        ValueError: If something in it cannot be opened, such as a generator.
    """
    return [tensor for _, tensor in named_tensors(value, name)]


def comparable_in(value: Any) -> list[Tensor]:
    """Find all by which what two networks give back is compared: its tensors, dense, and its numbers."""
    found = [tensor for _, tensor in named_tensors(value, numbers=True)]
    plain = [tensor.dequantize() if tensor.is_quantized else tensor for tensor in found]
    return [tensor if tensor.layout == torch.strided else tensor.to_dense() for tensor in plain]


def named_tensors(value: Any, name: str = "output", *, numbers: bool = False) -> Iterator[tuple[str, Tensor]]:
    """Yield what :func:`tensors_in` finds, each tensor with its path, such as ``output['aux'].scores[0]``.

    Args:
        value: Anything that a network gives back or takes.
        name: Name of the value.
        numbers: Whether to yield Python's and NumPy's numbers, too, as tensors.
    """
    opened: dict[int, Any] = {}  # keeps them alive, as ids are unique only among living objects
    waiting: list[Part] = [(name, value)]
    while waiting:
        path, part = waiting.pop()
        if isinstance(part, Tensor):
            yield path, part
        elif isinstance(part, np.ndarray) and part.dtype.kind in "biufc":
            yield path, torch.from_numpy(np.ascontiguousarray(part))
        elif numbers and isinstance(part, int | float | complex | np.number):
            yield path, torch.tensor(part)
        if isinstance(part, ATOMS) or id(part) in opened:
            continue
        opened[id(part)] = part
        parts = _parts(part)
        if parts is None:
            raise ValueError(
                f"{path} is a {type(part).__name__}, which cannot be opened to see whether it holds tensors; "
                "give a network that returns tensors in tuples, lists, dicts, dataclasses or plain objects"
            )
        waiting += reversed([(path + step, inner) for step, inner in parts])


def attributes_of(value: Any) -> dict[str, Any]:
    """Return the attributes that an object itself holds, those in slots included."""
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        own = {}
    return {**own, **slots_of(value)}


def slots_of(value: Any) -> dict[str, Any]:
    """Return the attributes that an object holds in slots and that are set."""
    kind: type = type(value)
    found: dict[str, Any] = {}
    for name, slot in _slots(kind):
        with contextlib.suppress(AttributeError):  # not set
            found.setdefault(name, slot.__get__(value))
    return found


@functools.cache
def _slots(kind: type) -> list[tuple[str, types.MemberDescriptorType]]:
    return [
        (name, member)
        for base in kind.__mro__
        for name, member in vars(base).items()
        if isinstance(member, types.MemberDescriptorType) and base.__flags__ & _HEAP_TYPE
    ]


def is_plain_object(value: Any) -> bool:
    """Return whether an object holds nothing but its attributes: its class is written in Python."""
    for base in type(value).__mro__:
        own_new = isinstance(base.__new__, types.BuiltinFunctionType) and base.__new__.__self__ is base
        if own_new or base.__flags__ & (_HEAP_TYPE | _NOT_CALLABLE) != _HEAP_TYPE:
            return base is object
    return False


def _parts(value: Any) -> list[Part] | None:
    """Return the parts of a value; None if it is of a kind that is not known."""
    named = [(f".{name}", part) for name, part in attributes_of(value).items()]
    match value:
        case Tensor():
            return named
        case np.ndarray():
            return list(_numbered(value.flat)) if value.dtype.kind == "O" else []
        case nn.Module():
            own = [(f".{name}", part) for name, part in vars(value).items() if name not in OF_ANY_MODULE]
            return own + [(f".{name}", child) for name, child in value.named_children()]
        case dict() | types.MappingProxyType():
            keys = list(_numbered(value, ".keys()"))
            return keys + [(f"[{_short(key)}]", part) for key, part in value.items()] + named
        case set() | frozenset():
            return [*_numbered(sorted(value, key=_rank)), *named]
        case list() | tuple() | deque():
            return [*_numbered(value), *named]
        case types.FunctionType():
            held = [part for cell in value.__closure__ or () for part in contents_of(cell)]
            held += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
            return [*_numbered(held, " holds "), *named]
        case types.MethodType() | types.BuiltinFunctionType():
            return [(".__self__", value.__self__), (".__func__", getattr(value, "__func__", None))]
        case functools.partial():
            return [(".func", value.func), (".args", value.args), (".keywords", value.keywords), *named]
    return named if is_plain_object(value) or isinstance(value, types.SimpleNamespace) else None


def contents_of(cell: types.CellType) -> list[Any]:
    """Return the value of a variable that functions share in a list, which is empty if it is not set."""
    try:
        return [cell.cell_contents]
    except ValueError:
        return []


def _numbered(values: Iterable[Any], prefix: str = "") -> Iterator[Part]:
    for number, value in enumerate(values):
        yield f"{prefix}[{number}]", value


def _short(key: Any) -> str:
    return repr(key) if isinstance(key, str | int | float | bool | None) else type(key).__name__


def _rank(element: Any) -> list[tuple[Any, ...]]:
    """Order the elements of a set by the tensors in them, as the order of a set changes between runs."""
    sums = [(x.shape, x.detach().to(torch.complex128).sum().item()) for x in tensors_in(element)]
    return [(tuple(shape), total.real, total.imag) for shape, total in sums]
