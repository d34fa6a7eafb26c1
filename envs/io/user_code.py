"""Errors in the user's own code: a network, a loss, a metric, a data set, an augmentation, a reward."""

import os
import pickle
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from .memory import is_out_of_memory
from .untrusted import with_type

_TEMPLATES = f"{Path(__file__).parents[2] / 'agent'}{os.sep}"  # of pages, which are no modules
_KEPT = "_secateur_place"
_LIBRARIES = tuple(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib"))


def users_line(error: BaseException) -> str | None:
    """Say where the user's code failed, or a library that it called; None for other errors, and for memory.

    Returns:
        A sentence such as ``score in mytask.py, line 5, failed (KeyError: 'boom')``.
    """
    if (place := _place(error)) is None:
        return None
    function, file, line = place
    return f"{function} in {file}, line {line}, failed ({with_type(_raised(error))})"


def with_place(error: BaseException) -> str:
    """Return type, first line and place of an error of the user's code: ``KeyError: 'a'; own.py, line 5``."""
    place = _place(error)
    return with_type(error) if place is None else f"{with_type(error)}; {place[1]}, line {place[2]}"


def portable(error: BaseException, dumps: Callable[[Any], bytes] = pickle.dumps) -> BaseException:
    """Return an error that another process can raise: the same, or one with its text; it keeps its place.

    Args:
        error: The error.
        dumps: What pickles errors on their way.
    """
    place = {_KEPT: _place(error)}
    error.__dict__.update(place)
    try:
        pickle.loads(dumps(error))
    except Exception:  # an error of the user's may do anything when it is read
        error = RuntimeError(f"{type(error).__name__}: {error}")
        error.__dict__.update(place)
    return error


def _place(error: BaseException) -> tuple[str, str, int] | None:
    """Return function, file and line of the user's code that failed."""
    if is_out_of_memory(error):
        return None
    if (kept := error.__dict__.get(_KEPT)) is not None:
        return cast("tuple[str, str, int]", kept)
    for frame, line in reversed([*traceback.walk_tb(_raised(error).__traceback__)]):
        file = frame.f_code.co_filename
        if _is_own(frame.f_globals.get("__name__", "")) or file.startswith(_TEMPLATES):
            return None
        if not file.startswith((*_LIBRARIES, "<")):
            return frame.f_code.co_name, Path(file).name, line
    return None


def _raised(error: BaseException) -> BaseException:
    """Return what the code raised: Python makes another error of a StopIteration that leaves a generator."""
    cause = error.__cause__
    return cause if isinstance(error, RuntimeError) and isinstance(cause, StopIteration) else error


def _is_own(module: str) -> bool:
    return module.partition(".")[0] == __name__.partition(".")[0]
