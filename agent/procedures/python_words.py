"""What is said to users of Python: arguments of wrong types, and keywords instead of flags in messages."""

import functools
import inspect
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ...envs.tasks.passes import DataError
from ..run.flat_options import options_of
from ..run.wording import wording
from .config import PruningConfig
from .data_config import DataConfig
from .keywords import check_arguments

P = ParamSpec("P")
R = TypeVar("R")

_COMMAND = r"`[^`]*`"
_FLAG = r"--(?P<name>[a-z][a-z-]*[a-z])(?: (?=\d)(?P<is_given>))?"
_WORDS = re.compile(f"{_COMMAND}|; --debug shows where|{_FLAG}")


def speaks_python(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function of ``import secateur``: arguments are checked, and messages name keywords."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        check_arguments(signature.bind(*args, **kwargs).arguments)
        try:
            with wording(with_keywords):
                return function(*args, **kwargs)
        except (ValueError, DataError) as error:
            if (said := with_keywords(str(error))) != str(error):
                error.args = (said,)
            raise

    return wrapper


def with_keywords(message: str) -> str:
    """Replace flags by keywords: ``--round-to 8`` by ``round_to=8``, ``--download`` by ``download=True``.

    Commands in backticks stay. What only the command line can do is left out.
    """

    def replaced(found: re.Match[str]) -> str:
        if found["name"] is None:
            return found[0] if found[0].startswith("`") else ""
        name = found["name"].replace("-", "_")
        if name in _switches():
            return f"{name}=True"
        return f"{name}=" if found["is_given"] is not None else name

    return _WORDS.sub(replaced, message)


@functools.cache
def _switches() -> set[str]:
    """Return the names of the options that are true or false."""
    options = (option for kind in (PruningConfig, DataConfig) for option in options_of(kind))
    return {option.name for option in options if option.kind is bool}
