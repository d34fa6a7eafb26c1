"""Checks of the keywords of ``import secateur``, before anything is loaded."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_origin

import torch

from ...envs.io.suggestions import did_you_mean
from ...envs.io.untrusted import short
from ...envs.recovery.config import RecoveryConfig
from ..run.flat_options import convert_option, options_of
from .config import PruningConfig
from .data_config import DataConfig
from .options import Repeated

_PRUNES_OWN = ("out", "resume", "name")
"""Keywords of prune that are no options."""

_OF_TRAINING = {"teacher", "on_step", "on_epoch"}
"""Keywords of prune and recover that are no options."""

_RECOVERY = {option.name for option in options_of(RecoveryConfig)}
_COMPENSATION = "compensation_images"
_OF_THE_CHOICE = {_COMPENSATION, "quantize"}
"""Options of the recovery that the search needs: it measures candidates after compensation, and in int8."""

_OF_A_WHOLE_RUN = {"procedure", "layer_epochs"}
"""Options of the choice that prune alone does something with."""

_IN_COMPARISONS = {"target_macs": "targets", "seed": "seeds", "method": "methods"}
"""Options of the choice that a comparison takes several of, and their names there."""

_ARGUMENTS: Mapping[str, tuple[Any, str]] = {
    "out": ((str, Path), "a path"),
    "resume": (bool, "True or False"),
    "name": (str, "a text"),
    "on_step": (Callable, "a function of the progress"),
    "on_epoch": (Callable, "a function of the progress"),
}
"""Types of the arguments that are no options, and what to give."""


def check_arguments(given: Mapping[str, Any]) -> None:
    """Check the types of the arguments that are no options; None is the default of most.

    Args:
        given: Arguments of a function of ``import secateur`` by name; others pass.

    Raises:
        ValueError: If one has the wrong type.
    """
    for name, (kind, what) in _ARGUMENTS.items():
        value = given.get(name)
        if value == "" or (value is not None and not isinstance(value, kind)):
            raise ValueError(f"{name} is {short(repr(value))}; give {what}")


def checked_keywords(function: str, options: dict[str, Any]) -> dict[str, Any]:
    """Check that options do something in a function and are of their types.

    Args:
        function: ``search``, ``recover``, ``prune`` or ``compare``.
        options: The keywords by name; unknown names pass.

    Returns:
        The options, with NumPy's numbers, percentages and paths as plain values.

    Raises:
        ValueError: If an option belongs to other functions, or has the wrong type.
    """
    kinds = {option.name: option.kind for kind in (PruningConfig, DataConfig) for option in options_of(kind)}
    for name in options:
        if others := _others(function, name, kinds):
            instead = _IN_COMPARISONS.get(name) if function == "compare" else None
            advice = f"give {instead} instead" if instead else "leave it out"
            raise ValueError(f"{name} is an option of {others}, not of {function}; {advice}")
    return {name: _plain(name, kinds.get(name), value) for name, value in options.items()}


def split_keywords(options: dict[str, Any], *kinds: type) -> list[dict[str, Any]]:
    """Sort options by the dataclass that has them.

    Raises:
        ValueError: If none has one of them.
    """
    names = [{option.name for option in options_of(kind)} for kind in kinds]
    known = sorted(set().union(*names) - {"data", "task"})
    for option in options:
        if option not in known:
            raise ValueError(f"there is no option {option!r}{did_you_mean(option, known)}")
    return [{key: value for key, value in options.items() if key in own} for own in names]


def _others(function: str, name: str, known: dict[str, Any]) -> str:
    """Name the functions that have an option if this one does not use it; else ""."""
    if name in _PRUNES_OWN:
        return "prune"
    if function == "search" and name in (_RECOVERY - _OF_THE_CHOICE) | _OF_TRAINING:
        return "prune and recover"
    if function == "compare" and name in _OF_TRAINING:
        return "prune and recover"
    is_the_choice = name in {option.name for option in options_of(PruningConfig)} - _RECOVERY
    if function == "recover" and name in known and (is_the_choice or name == _COMPENSATION):
        return "search and prune"
    if function == "compare" and is_the_choice and name != "effort":
        return "prune" if name in _OF_A_WHOLE_RUN else "search and prune"
    return ""


def _plain(name: str, kind: Any, value: Any) -> Any:
    """Convert a value to the type of its option; names and constraints are checked where they are used."""
    if kind is None or kind is Repeated or get_origin(kind) is Literal:
        return value
    if isinstance(value, torch.device) or (name == "agent" and isinstance(value, Path)):
        value = str(value)
    return convert_option(name, kind, value)
