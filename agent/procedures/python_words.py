"""What is said to users of Python: arguments of wrong types, and keywords instead of flags in messages."""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ...envs.tasks.passes import DataError
from ..run.flat_options import options_of
from ..run.wording import as_keywords, wording
from .config import PruningConfig
from .data_config import DataConfig
from .keywords import check_arguments

P = ParamSpec("P")
R = TypeVar("R")


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
    """Replace flags of a message by keywords; see :func:`.as_keywords`."""
    return as_keywords(message, _switches())


@functools.cache
def _switches() -> set[str]:
    """Return the names of the options that are true or false."""
    options = (option for kind in (PruningConfig, DataConfig) for option in options_of(kind))
    return {option.name for option in options if option.kind is bool}
