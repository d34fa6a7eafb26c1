"""``secateur resume``: continue an interrupted run."""

import dataclasses
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from ...envs.io.run_files import CONFIG
from .console import console
from .prune import Prune
from .train import Train

_RENAMED_OPTIONS = {"limits": "constraints"}
"""Option names in ``config.yaml`` of version 0.1, and their current names."""

_VERBS: dict[str, type[Prune] | type[Train]] = {"prune": Prune, "train": Train}


@dataclass(frozen=True)
class Resume:
    """Resume a run that was stopped or killed; its results are those of an uninterrupted run."""

    folder: Positional[Path]
    """Folder of a prune or train run. Resume in the directory where the run was started, as its paths may be
    relative."""

    def run(self) -> None:
        """Resume the run, unless it is finished."""
        verb = interrupted(self.folder)
        if any((self.folder / name).is_file() for name in verb.results):
            console().print(f"{self.folder} is finished already", soft_wrap=True)
        else:
            verb.run(resumed=True)


def interrupted(folder: Path) -> Prune | Train:
    """Return the verb of a run, with its options.

    Raises:
        ValueError: If the folder is not that of a run, or its configuration is of another version.
    """
    from ..run.folder import read_config

    content = read_config(folder)
    content.pop("command", None)
    name = content.pop("verb", None)
    if name not in _VERBS:
        raise ValueError(
            f"{folder / CONFIG} does not name a verb that can be resumed; these are prune and train"
        )
    try:
        verb: Prune | Train = _restored(_VERBS[name], content)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{folder / CONFIG} does not describe a run of this version: {error}") from error
    return dataclasses.replace(verb, out=folder)


def _restored(kind: Any, content: dict[str, Any]) -> Any:
    """Restore a dataclass from the result of :func:`dataclasses.asdict` and YAML."""
    types_of_fields = typing.get_type_hints(kind)
    content = {_RENAMED_OPTIONS.get(name, name): value for name, value in content.items()}
    return kind(**{name: _restored_value(types_of_fields[name], value) for name, value in content.items()})


def _restored_value(kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        return _restored(kind, value)
    if isinstance(value, list):
        return tuple(_restored_value(Any, entry) for entry in value)
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return Path(value) if isinstance(value, str) and Path in kinds else value
