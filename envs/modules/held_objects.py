"""All objects that a network holds, however deep."""

import gc
import types
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from .structures import ATOMS, attributes_of


def held_objects(value: Any) -> Iterator[Any]:
    """Yield an object and all that it holds, directly or indirectly, each once.

    Among them are what functions have in their closures, defaults and attributes. Left out are the referents
    of weak references, global variables, and what holds no other objects, such as numbers.
    """
    found: dict[int, Any] = {}  # keeps them alive, as ids are unique only among living objects
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if id(part) in found or (isinstance(part, ATOMS) and not isinstance(part, types.ModuleType)):
            continue
        found[id(part)] = part
        yield part
        waiting += _parts(part)


def is_proxy(value: Any) -> bool:
    """Return whether an object is a weak proxy, which else looks like its referent."""
    return type(value) in weakref.ProxyTypes


def _parts(value: Any) -> list[Any]:
    if is_proxy(value) or isinstance(value, types.ModuleType):
        return []
    if isinstance(value, types.FunctionType):
        defaults = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        return [*(value.__closure__ or ()), *defaults, *vars(value).values()]
    if isinstance(value, Tensor):
        return list(attributes_of(value).values())
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        return []
    return gc.get_referents(value)
