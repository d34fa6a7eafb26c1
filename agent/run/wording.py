"""The words of messages: those of the command line, unless Python called."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

_reworded: ContextVar[Callable[[str], str]] = ContextVar("reworded", default=str)


@contextlib.contextmanager
def wording(reworded: Callable[[str], str]) -> Iterator[None]:
    """Put every message and note within a context in other words.

    Args:
        reworded: Function from a sentence to the one that is said.
    """
    token = _reworded.set(reworded)
    try:
        yield
    finally:
        _reworded.reset(token)


def worded(sentence: str) -> str:
    """Return a sentence as it is said here."""
    return _reworded.get()(sentence)
