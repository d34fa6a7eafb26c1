"""Whole numbers in the attributes of modules, at any depth.

A path such as ``blocks.0.width``, ``cfg.dim``, ``table.dim`` or ``parts.0`` leads through submodules, then
through attributes of plain objects, keys of dicts and indices of sequences. It leads into no tensor, array,
function or class, into nothing of ``nn.Module`` itself, and to no size that follows from a module's weights.
"""

import enum
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from .sizes import attributes_from_weights
from .structures import OF_ANY_MODULE, attributes_of, is_plain_object

_OPAQUE = (sys.stdlib_module_names - {"argparse", "collections", "types"}) | {"numpy", "torch"}
"""Packages whose objects are not searched; those left out have plain records, such as SimpleNamespace."""

_LONGEST = 1000
"""Longest sequence or dict that is searched: longer ones, such as vocabularies, hold no sizes of layers."""

_DEEPEST = 20


class _Place(NamedTuple):
    value: Any
    put: Callable[[Any], object]


def is_whole(value: object) -> bool:
    """Return whether a value is a whole number, Python's or NumPy's, and no flag or enumerated constant."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool | enum.Enum)


def replace_numbers(
    model: nn.Module, change: Callable[[str, Any], Any], *, untouched: frozenset[int] = frozenset()
) -> None:
    """Replace each whole number that a network holds by what ``change`` returns for its path and value.

    A number in an object that several modules share has one path, the first.

    Args:
        model: The network.
        change: Gets each number; may return it as it is.
        untouched: Identities of objects that are left alone.
    """
    seen = set(untouched)

    def visit(value: Any, path: str, depth: int) -> Any:
        if is_whole(value):
            return change(path, value)
        if not _is_open(value) or depth > _DEEPEST or id(value) in seen:
            return value
        if isinstance(value, tuple):
            items = [visit(item, f"{path}.{i}", depth + 1) for i, item in enumerate(value)]
            same = all(new is old for new, old in zip(items, value, strict=True))
            return value if same else _rebuilt(value, items)
        seen.add(id(value))
        search(value, f"{path}.", depth + 1)
        return value

    def search(holder: Any, prefix: str, depth: int) -> None:
        for name, place in _places(holder).items():
            new = visit(place.value, prefix + name, depth)
            if new is not place.value:
                place.put(new)

    for name, module in model.named_modules():
        search(module, f"{name}." if name else "", 0)


def holders(model: nn.Module) -> frozenset[int]:
    """Return the identities of all lists, dicts and plain objects that a network holds, at any depth."""
    found: set[int] = set()

    def visit(holder: Any, depth: int) -> None:
        for value in [place.value for place in _places(holder).values()]:
            if _is_open(value) and depth <= _DEEPEST and (isinstance(value, tuple) or id(value) not in found):
                if not isinstance(value, tuple):  # an immutable one is not copied, and never changed
                    found.add(id(value))
                visit(value, depth + 1)

    for module in model.modules():
        visit(module, 0)
    return frozenset(found)


def number_at(model: nn.Module, path: str) -> Any:
    """Return the value at a path.

    Raises:
        KeyError: If there is none.
    """
    found: list[Any] = []

    def look(value: Any) -> Any:
        found.append(value)
        return value

    replace_at(model, path, look)
    return found[0]


def replace_at(model: nn.Module, path: str, change: Callable[[Any], Any]) -> None:
    """Replace the value at a path by what ``change`` returns for it; tuples on the way are rebuilt.

    Raises:
        KeyError: If there is none.
    """
    steps, module = path.split("."), model
    while len(steps) > 1 and isinstance(child := module._modules.get(steps[0]), nn.Module):
        module = child
        del steps[0]
    _replace_in(module, steps, change)


def _replace_in(holder: Any, steps: Sequence[str], change: Callable[[Any], Any]) -> Any:
    """Return ``holder`` with the value at the end of ``steps`` changed."""
    if not steps:
        return change(holder)
    if isinstance(holder, tuple):
        items = list(holder)
        position = _position(steps[0], items)
        items[position] = _replace_in(items[position], steps[1:], change)
        return _rebuilt(holder, items)
    if not isinstance(holder, nn.Module) and not _is_open(holder):
        raise KeyError(steps[0])
    place = _places(holder)[steps[0]]
    new = _replace_in(place.value, steps[1:], change)
    if new is not place.value:
        place.put(new)
    return holder


def _position(step: str, items: Sequence[Any]) -> int:
    if not step.isdecimal() or int(step) >= len(items):
        raise KeyError(step)
    return int(step)


def _rebuilt(old: tuple[Any, ...], items: Sequence[Any]) -> tuple[Any, ...]:
    """Make a tuple, a named tuple or a ``torch.Size`` of the kind of ``old``."""
    make: Callable[[Sequence[Any]], tuple[Any, ...]] = getattr(type(old), "_make", type(old))
    return make(items)


def _is_open(value: object) -> bool:
    """Return whether a value is searched: a sequence, a dict, or a plain object of the user's code."""
    if isinstance(value, list | tuple | dict):
        return len(value) <= _LONGEST
    is_plain = isinstance(value, types.SimpleNamespace) or is_plain_object(value)
    return is_plain and not isinstance(value, nn.Module | enum.Enum) and not _is_opaque(type(value))


def _is_opaque(kind: type) -> bool:
    return kind.__module__.split(".")[0] in _OPAQUE


def _places(holder: Any) -> dict[str, _Place]:
    """Return the values in a module, object, dict or list, by their step in a path, and how to put others."""
    found: dict[str, _Place] = {}
    if isinstance(holder, dict):
        for key, value in holder.items():
            if isinstance(key, str | int) and _is_step(str(key)):
                found.setdefault(str(key), _Place(value, partial(dict.__setitem__, holder, key)))
    elif isinstance(holder, list):
        for position, value in enumerate(holder):
            found[str(position)] = _Place(value, partial(list.__setitem__, holder, position))
    hidden = OF_ANY_MODULE.union(attributes_from_weights(holder)) if isinstance(holder, nn.Module) else ()
    for name, value in _attributes(holder):
        put = partial(object.__setattr__, holder, name)
        if name in found and found[name].value is value:  # dicts whose items are attributes too
            found[name] = _Place(value, partial(_put_both, found[name].put, put))
        elif name not in found and name not in hidden and _is_step(name):
            found[name] = _Place(value, put)
    return found


def _put_both(one: Callable[[Any], object], other: Callable[[Any], object], value: Any) -> None:
    one(value)
    other(value)


def _attributes(holder: object) -> Iterator[tuple[str, Any]]:
    """Yield an object's own attributes, and numbers and tuples of its class and its bases.

    A cut gives the object an attribute of its own, so that the class stays as it is.
    """
    own = attributes_of(holder)
    yield from own.items()
    known = set(own)
    for kind in type(holder).__mro__:
        if not _is_opaque(kind):
            for name, value in vars(kind).items():
                if name not in known and (type(value) is int or isinstance(value, tuple)):
                    yield name, value
            known.update(vars(kind))


def _is_step(name: str) -> bool:
    """Return whether a name can be a step of a path and is none of Python's own."""
    return bool(name) and "." not in name and name.isprintable() and not name.startswith("__")


def set_numbers(model: nn.Module, values: Mapping[str, tuple[int, ...] | int]) -> None:
    """Set whole numbers, or sequences of them, by path to smaller ones.

    Raises:
        ValueError: If the network has none at a path, or a cut cannot bring it to that value.
    """
    for path, value in values.items():
        try:
            replace_at(model, path, partial(_smaller, path, value))
        except KeyError:
            owner, _, name = path.rpartition(".")
            modules = dict(model.named_modules())
            if owner in modules and name in vars(modules[owner]):
                raise ValueError(_no_size(path)) from None
            raise ValueError(f"the plan sets {path!r}, which this network does not have") from None


def _smaller(path: str, new: tuple[int, ...] | int, old: Any) -> Any:
    """Return ``new`` as the same kind of number or sequence as ``old``."""
    if not _shrinks(old, new):
        raise ValueError(_no_size(path))
    if isinstance(new, int):
        return type(old)(new) if isinstance(old, np.integer) else new
    items = [_smaller(path, *pair) for pair in zip(new, old, strict=True)]
    if isinstance(old, tuple):
        return _rebuilt(old, items)
    old[:] = items  # other modules may share the list
    return old


def _no_size(path: str) -> str:
    return f"the plan sets {path!r}, which is no size that a cut can change to that value"


def _shrinks(old: object, new: tuple[int, ...] | int) -> bool:
    """Return whether whole numbers become as many positive ones, none of them larger."""
    if isinstance(new, int):
        return is_whole(old) and (new == old or 1 <= new < old)  # type: ignore[operator]
    fits = isinstance(old, list | tuple) and len(old) == len(new)
    return fits and all(_shrinks(*pair) for pair in zip(old, new, strict=True))  # type: ignore[call-overload]
