"""Errors in the user's own code: a network, a loss, a metric, an augmentation, a reward."""

import sysconfig
import traceback
from pathlib import Path

from ...envs.io.memory import is_out_of_memory
from ...envs.io.untrusted import with_type

_OWN = str(Path(__file__).parents[1])  # templates are no modules

_LIBRARIES = tuple(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib"))


def users_line(error: BaseException) -> str | None:
    """Say where the user's code failed, or a library that it called; None for other errors, and for memory.

    Returns:
        A sentence such as ``metric in mytask.py, line 5, failed (KeyError: 'boom')``.
    """
    if is_out_of_memory(error):
        return None
    for frame, line in reversed([*traceback.walk_tb(error.__traceback__)]):
        file = frame.f_code.co_filename
        if _is_own(frame.f_globals.get("__name__", "")) or file.startswith(_OWN):
            return None
        if not file.startswith((*_LIBRARIES, "<")):
            return f"{frame.f_code.co_name} in {Path(file).name}, line {line}, failed ({with_type(error)})"
    return None


def _is_own(module: str) -> bool:
    return module.partition(".")[0] == __name__.partition(".")[0]
