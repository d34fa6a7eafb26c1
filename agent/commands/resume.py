"""``secateur resume``: continue an interrupted run."""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from ...envs.io.run_files import CHECKPOINTS, CONFIG
from ..run.flat_options import NOT_OPTIONS, from_flat, read_config
from ..run.locks import is_locked
from .compare import Compare
from .console import console
from .process import check_shared
from .prune import Prune
from .train import Train

Resumable = Prune | Train | Compare

_FROM_PYTHON = "it was begun from Python, so call secateur.{} again with the same options and resume=True"

_VERBS: dict[str, type[Resumable]] = {"prune": Prune, "train": Train, "compare": Compare}


@dataclass(frozen=True)
class Resume:
    """Resume a run that was stopped or killed; its results are those of an uninterrupted run."""

    folder: Positional[Path]
    """Folder of a prune, train or compare run. Resume in the directory where the run was started, as its
    paths may be relative."""

    shared: ClassVar[bool] = True
    """Whether several processes share the work."""
    everyday: ClassVar[tuple[str, ...]] = ("folder",)
    example: ClassVar[str] = "secateur resume runs/mine"

    def run(self) -> None:
        """Resume the run, unless it is finished."""
        from ...envs.modules.ranks import first_decides

        verb = first_decides(lambda: interrupted(self.folder))
        check_shared(verb)
        if first_decides(lambda: _is_finished(self.folder, verb)):
            console().print(f"{self.folder} is finished already", soft_wrap=True)
        else:
            verb.run(resumed=True)


def _is_finished(folder: Path, verb: Resumable) -> bool:
    """Return whether a run has its last results; its checkpoints are of no use then, and are removed."""
    if not any((folder / name).is_file() for name in verb.results):
        return False
    if not is_locked(folder):  # a process was killed between its last result and its end
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return True


_HINTS = {
    "member": "; resume the comparison that this run is part of",
    "python": f"; {_FROM_PYTHON.format('prune')}",
    "pythoncomparison": f"; {_FROM_PYTHON.format('compare')}",
}
"""What to do with runs of other verbs."""


def interrupted(folder: Path) -> Resumable:
    """Return the verb of a run, with its options.

    Raises:
        ValueError: If the folder is not that of a run, or its configuration is of another version.
    """
    content = read_config(folder)
    name = content.get("verb")
    if name not in _VERBS:
        raise ValueError(
            f"{folder / CONFIG} does not name a verb that can be resumed; these are {', '.join(_VERBS)}"
            f"{_HINTS.get(str(name), '')}"
        )
    try:
        options = {key: value for key, value in content.items() if key not in NOT_OPTIONS}
        verb: Resumable = from_flat(_VERBS[name], options)
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} does not describe a run of this version: {error}") from error
    return dataclasses.replace(verb, out=folder)
