"""Prune the filters of a trained CNN with a reinforcement-learning agent.

The public names are imported when they are first used, as torch takes seconds to import.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_CHECKOUT = Path(__file__).parents[1]
if (_CHECKOUT / "pyproject.toml").is_file():
    # In a checkout the folders of the other packages lie beside this one, not inside it.
    __path__.append(str(_CHECKOUT))

try:
    __version__ = version("secateur")
except PackageNotFoundError:  # a checkout that nobody installed
    __version__ = "0+unknown"

_FRONT_DOOR = "agent.procedures.front_door"

_PUBLIC = {
    "trace": ("envs.surgery.verification", "trace_exactly"),
    "search": (_FRONT_DOOR, "search"),
    "cut": (_FRONT_DOOR, "cut"),
    "recover": (_FRONT_DOOR, "recover"),
    "prune": (_FRONT_DOOR, "prune"),
    "load": (_FRONT_DOOR, "load"),
    "compare": ("agent.comparison.front_door", "compare"),
    "Task": ("envs.tasks.base", "Task"),
    "TensorTask": ("envs.tasks.own.tensors", "TensorTask"),
    "PruningPlan": ("envs.surgery.plan", "PruningPlan"),
    "PruningConfig": ("agent.procedures.config", "PruningConfig"),
}
"""The module and the name there of each public name."""

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'secateur' has no attribute {name!r}; it has {', '.join(__all__)}")
    module, attribute = _PUBLIC[name]
    found = getattr(import_module(f".{module}", __name__), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
