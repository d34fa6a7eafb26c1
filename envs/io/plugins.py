"""Import the user's code by name: ``package.module:thing``, installed or in the current directory."""

import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from .memory import is_out_of_memory
from .suggestions import did_you_mean
from .user_code import with_place

_MOST_NAMES = 5
"""Largest number of names of a module in a message."""


@contextlib.contextmanager
def imported_module(name: str) -> Iterator[ModuleType]:
    """Import the module of ``package.module:thing``, with the current directory on Python's path.

    Raises:
        ValueError: If the module cannot be imported, or belongs to the standard library: a run folder from
            somebody else must not be able to call functions that exist on every machine.
    """
    path, _, thing = name.partition(":")
    if not path or not thing:
        raise ValueError(f"{name!r} has no {'thing' if path else 'module'}; give package.module:thing")
    if path.partition(".")[0] in sys.stdlib_module_names:
        raise ValueError(f"{name!r} is a part of Python, which has neither networks nor tasks; give your own")
    with _current_directory_importable():
        try:
            module = importlib.import_module(path)
        except ImportError as error:
            raise ValueError(
                f"the module of {name!r} cannot be imported ({error}): "
                f"give package.module:{thing}, installed or in the current directory"
            ) from error
        except Exception as error:  # the user's code may raise anything
            if is_out_of_memory(error):
                raise
            raise ValueError(f"the module of {name!r} cannot be imported: {with_place(error)}") from error
        yield module


def accepted_arguments(factory: Callable[..., Any], **offered: Any) -> dict[str, Any]:
    """Choose the offered arguments that a factory accepts by name.

    Raises:
        TypeError: If the factory cannot be called with these; the message names the missing argument.
    """
    signature = inspect.signature(factory)
    kinds = {p.name: p.kind for p in signature.parameters.values()}
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    chosen = {key: value for key, value in offered.items() if kinds.get(key) in by_name}
    signature.bind(**chosen)
    return chosen


@contextlib.contextmanager
def _current_directory_importable() -> Iterator[None]:
    """Add the current directory to the end of Python's path."""
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        yield
    finally:  # by identity: the same folder may have been there before, and the module may have added it too
        sys.path[:] = [entry for entry in sys.path if entry is not here]


def nearest_or_all(module: ModuleType, attribute: str) -> str:
    """Return what a module has instead of a name: the nearest public one, or its own functions and classes.

    Args:
        module: The module.
        attribute: The unknown name.

    Returns:
        The end of a message, "" if the module has nothing of its own.
    """
    public = {key: value for key, value in vars(module).items() if not key.startswith("_")}
    own = [
        key
        for key, value in public.items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    ]
    meant = did_you_mean(attribute, public)
    if meant or not own:
        return meant
    more = ", ..." if len(own) > _MOST_NAMES else ""
    return f"; it has {', '.join(own[:_MOST_NAMES])}{more}"
