"""``secateur resume``: go on with a run that was interrupted."""

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
"""What version 0.1 wrote into ``config.yaml``, and what it is called now."""

_VERBS: dict[str, type[Prune] | type[Train]] = {"prune": Prune, "train": Train}


@dataclass(frozen=True)
class Resume:
    """Go on with a run that was stopped or killed; it ends as if it had never been."""

    folder: Positional[Path]
    """Of the run. Start it where the run was started: paths in its configuration are relative to there."""

    def run(self) -> None:
        """Go on, unless the run is finished."""
        verb = interrupted(self.folder)
        if any((self.folder / name).is_file() for name in verb.results):
            console().print(f"{self.folder} is finished already", soft_wrap=True)
        else:
            verb.run(resumed=True)


def interrupted(folder: Path) -> Prune | Train:
    """Make the verb that began a run.

    Raises:
        ValueError: If the folder is none of a run, or its configuration is of another version.
    """
    from ..run.folder import read_config

    content = read_config(folder)
    content.pop("command", None)
    name = content.pop("verb", None)
    if name not in _VERBS:
        raise ValueError(f"{folder / CONFIG} names no verb that can be resumed; they are prune and train")
    try:
        verb: Prune | Train = _built(_VERBS[name], content)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{folder / CONFIG} does not describe a run of this version: {error}") from error
    return dataclasses.replace(verb, out=folder)


def _built(kind: Any, content: dict[str, Any]) -> Any:
    """Make a dataclass of what :func:`dataclasses.asdict` and YAML made of it."""
    types_of_fields = typing.get_type_hints(kind)
    content = {_RENAMED_OPTIONS.get(name, name): value for name, value in content.items()}
    return kind(**{name: _value(types_of_fields[name], value) for name, value in content.items()})


def _value(kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        return _built(kind, value)
    if isinstance(value, list):
        return tuple(_value(Any, entry) for entry in value)
    of_union = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return Path(value) if isinstance(value, str) and Path in of_union else value
