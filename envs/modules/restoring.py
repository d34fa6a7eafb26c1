"""Bring a network back to the state that it had before it ran."""

import contextlib
import random
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from .held_objects import held_objects, is_proxy
from .structures import contents_of, slots_of


class Snapshot:
    """The state of everything that an object holds: tensors, attributes, containers, random generators.

    Args:
        value: A network, or what else may change.
    """

    def __init__(self, value: Any) -> None:
        self._undo = [undo for part in held_objects(value) for undo in _undo(part)]

    def restore(self) -> None:
        """Make everything what it was; what did not change is not written to."""
        for undo in self._undo:
            undo()


Undo = Callable[[], object]


def _undo(value: Any) -> Iterator[Undo]:
    """Yield functions that undo later changes of one object itself, not of what it holds."""
    if isinstance(value, types.ModuleType) or is_proxy(value):
        return
    for kind, undo in _KINDS:
        if isinstance(value, kind):
            yield undo(value)
    if hasattr(value, "__dict__"):
        yield _undo_entries(vars(value), dict, _set_dict)
    if slots_of(value):
        yield _undo_entries(value, slots_of, _set_slots)


def _undo_tensor(tensor: Tensor) -> Undo:
    is_plain = tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized
    is_plain &= not isinstance(tensor, FakeTensor)  # an exported network may hold some, without memory
    data = tensor.data
    values = data.clone() if is_plain else None
    gradient = tensor.grad if tensor.is_leaf else None
    requires_grad = tensor.requires_grad

    def undo() -> None:
        if values is not None:
            _set_tensor(tensor, data, values)
        if tensor.is_leaf and tensor.grad is not gradient:
            tensor.grad = gradient
        if tensor.is_leaf and tensor.requires_grad != requires_grad:
            tensor.requires_grad_(requires_grad)

    return undo


def _undo_cell(cell: types.CellType) -> Undo:
    contents = contents_of(cell)

    def undo() -> None:
        if contents:
            cell.cell_contents = contents[0]
        elif contents_of(cell):
            del cell.cell_contents

    return undo


def _undo_entries(value: Any, read: Callable[[Any], Any], write: Callable[[Any, Any], object]) -> Undo:
    """Return a function that writes the entries that an object has now, if it has others by then."""
    before = read(value)

    def undo() -> None:
        if _ids(read(value)) != _ids(before):
            write(value, before)

    return undo


def _ids(entries: Any) -> list[int]:
    values = list(map(id, entries.values())) if isinstance(entries, dict) else []
    return [*map(id, entries), *values]


def _set_dict(value: dict[Any, Any], entries: dict[Any, Any]) -> None:
    kind: type[dict[Any, Any]] = OrderedDict if isinstance(value, OrderedDict) else dict
    kind.clear(value)  # subclasses may forbid or extend their own methods
    for key, entry in entries.items():
        kind.__setitem__(value, key, entry)


def _set_slots(value: Any, entries: dict[str, Any]) -> None:
    for name, entry in entries.items():
        with contextlib.suppress(AttributeError):  # read-only, as those of functools.partial
            object.__setattr__(value, name, entry)


def _set_tensor(tensor: Tensor, data: Tensor, values: Tensor) -> None:
    is_rebound = tensor.data_ptr() != data.data_ptr() or tensor.dtype != data.dtype
    if is_rebound or tensor.shape != data.shape or tensor.stride() != data.stride():
        tensor.data = data
    if not torch.equal(data, values):
        data.copy_(values)


def _set_array(array: Any, values: Any) -> None:
    if array.tobytes() != values.tobytes():
        array[...] = values


_KINDS: tuple[tuple[type, Callable[[Any], Undo]], ...] = (
    (Tensor, _undo_tensor),
    (np.ndarray, lambda array: partial(_set_array, array, array.copy())),
    (types.CellType, _undo_cell),
    (dict, partial(_undo_entries, read=dict, write=_set_dict)),
    (list, partial(_undo_entries, read=list, write=lambda x, old: list.__setitem__(x, slice(None), old))),
    (set, partial(_undo_entries, read=set, write=lambda x, old: (set.clear(x), set.update(x, old)))),
    (deque, partial(_undo_entries, read=list, write=lambda x, old: (x.clear(), x.extend(old)))),
    (random.Random, lambda generator: partial(generator.setstate, generator.getstate())),
    (np.random.RandomState, lambda generator: partial(generator.set_state, generator.get_state())),
    (torch.Generator, lambda generator: partial(generator.set_state, generator.get_state())),
    (np.random.BitGenerator, lambda bits: partial(setattr, bits, "state", bits.state)),
)
"""Kinds of objects that a pass may change, and how to undo that."""
