"""Find functions that reach the network by a global name, and so reach the original when a copy runs."""

import functools
import types
from collections.abc import Iterator
from typing import Any

from torch import nn

from .held_objects import held_objects
from .structures import ATOMS, CODE, contents_of

_HOOKS = (("_forward_hooks", "forward hook"), ("_forward_pre_hooks", "forward pre-hook"))


def global_read(model: nn.Module) -> str:
    """Find a hook or a method that reads an object of the network by a global name, as ``net`` in a script.

    Returns:
        A clause for a message; "" if there is none.
    """
    held = {id(value) for value in held_objects(model) if not isinstance(value, (CODE, ATOMS))}
    for what, function in _functions(model):
        for name in _names(function.__code__):
            if id(function.__globals__.get(name)) in held:
                return f"{what} reads the global name {name!r}"
    return ""


def _functions(model: nn.Module) -> Iterator[tuple[str, types.FunctionType]]:
    """Yield the functions that a forward pass may run, each with what it is; hooks first."""
    for name, module in model.named_modules():
        for attribute, kind in _HOOKS:
            for hook in getattr(module, attribute).values():
                for function in _unwrapped(hook):
                    yield f"the {kind} {function.__qualname__} of {name or 'the network'}", function
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            for function in _unwrapped(value):
                yield f"{attribute} of {name or 'the network'}", function
        for function in _methods(type(module)):
            yield f"the method {function.__qualname__}", function


def _methods(kind: type) -> Iterator[types.FunctionType]:
    own = [base for base in kind.__mro__ if not base.__module__.startswith("torch.")]
    yield from (part for base in own for part in vars(base).values() if isinstance(part, types.FunctionType))


def _unwrapped(value: Any) -> Iterator[types.FunctionType]:
    """Yield the functions that a hook calls as far as it holds them."""
    match value:
        case types.FunctionType():
            yield value
            for cell in value.__closure__ or ():
                for contents in contents_of(cell):
                    if contents is not value:
                        yield from _unwrapped(contents)
        case types.MethodType():
            yield from _unwrapped(value.__func__)
        case functools.partial():
            yield from _unwrapped(value.func)
        case _ if not isinstance(value, nn.Module | CODE):
            call = vars(type(value)).get("__call__")
            yield from _unwrapped(call) if isinstance(call, types.FunctionType) else ()


def _names(code: types.CodeType) -> Iterator[str]:
    """Yield the global names that a function and the functions in it may read."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
