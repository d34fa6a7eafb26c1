"""The words of messages: those of the command line, unless Python called."""

import contextlib
import functools
import re
from collections.abc import Callable, Collection, Iterator
from contextvars import ContextVar
from typing import TypeVar

from .flat_options import options_of

T = TypeVar("T")

_reworded: ContextVar[Callable[[str], str] | None] = ContextVar("reworded", default=None)
"""None where neither the command line runs nor a function of ``import secateur``."""

_COMMAND = r"`[^`]*`"
_FLAG = r"--(?P<name>[a-z][a-z-]*[a-z])(?: (?=\d)(?P<is_given>))?"
_WORDS = re.compile(f"{_COMMAND}|; --debug shows where|{_FLAG}")


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
    reworded = _reworded.get()
    return sentence if reworded is None else reworded(sentence)


def keywords_in_python(check: Callable[[T], None]) -> Callable[[T], None]:
    """Decorate ``__post_init__`` of options: its refusals name keywords where Python made them by itself."""

    @functools.wraps(check)
    def wrapper(options: T) -> None:
        try:
            check(options)
        except ValueError as error:
            if _reworded.get() is None:
                switches = {option.name for option in options_of(type(options)) if option.kind is bool}
                error.args = (as_keywords(str(error), switches),)
            raise

    return wrapper


def as_keywords(message: str, switches: Collection[str]) -> str:
    """Replace flags by keywords: ``--round-to 8`` by ``round_to=8``, ``--download`` by ``download=True``.

    Commands in backticks stay. What only the command line can do is left out.

    Args:
        message: What is said.
        switches: Names of the options that are true or false.
    """

    def replaced(found: re.Match[str]) -> str:
        if found["name"] is None:
            return found[0] if found[0].startswith("`") else ""
        name = found["name"].replace("-", "_")
        if name in switches:
            return f"{name}=True"
        return f"{name}=" if found["is_given"] is not None else name

    return _WORDS.sub(replaced, message)
