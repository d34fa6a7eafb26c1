"""Errors of users' data sets in one line, also those of a ``DataLoader``'s workers."""

import contextlib
from collections.abc import Iterator

from ..io.memory import is_out_of_memory
from ..io.user_code import with_place
from .passes import DataError


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Turn an error of the user's data set into one line; memory that runs out is no such error.

    Args:
        what: What cannot be done, without the cause.

    Raises:
        DataError: If there is an error.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise DataError(f"{what} ({_cause(error)})") from error


def _cause(error: Exception) -> str:
    """Return type and message of an error in one line, also of one in a worker, whose text is a traceback."""
    lines = str(error).splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith('  File "')]
    if not frames or "DataLoader worker" not in lines[0]:
        return with_place(error)
    return next((line for line in lines[frames[-1] :] if line and not line.startswith("  ")), lines[0])
