"""The folder of a run that several ranks share: the first one writes, and the others follow it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import Logger

from ...envs.evaluation.journal import Journal, Records
from ...envs.modules.ranks import first_decides
from .folder import RunFolder
from .graceful_stop import GracefulStop


def open_folder(path: Path, config: Any, **options: Any) -> RunFolder:
    """Open the folder of a run on every rank.

    Args:
        path: The folder, the same on every rank.
        config: All options of the run.
        **options: As for :class:`.RunFolder`.

    Raises:
        ValueError: As :class:`.RunFolder`, on every rank.
        OSError: As :class:`.RunFolder`, on every rank.
    """
    opened: list[RunFolder] = []

    def open_first() -> tuple[str, str, Records]:
        folder = RunFolder(path, config, **options)
        opened.append(folder)
        return folder.advice, folder.command, folder.journal.records

    told = first_decides(open_first)
    return opened[0] if opened else FollowingFolder(path, *told)


class FollowingFolder(RunFolder):
    """Take part in a run whose folder another rank writes: stop with it, and know what it knows.

    Args:
        path: The folder.
        advice: What resumes the run.
        command: The command of the run.
        records: The content of its journal.
    """

    def __init__(self, path: Path, advice: str, command: str, records: Records) -> None:
        self.path, self.advice, self.command = path, advice, command
        self._stopping = GracefulStop(advice)
        self.check = self._stopping.check
        self.journal = Journal.in_memory(records, self.check)
        self.logger = Logger(None, [])

    def __exit__(self, *_: object) -> None:
        self._stopping.__exit__()

    def write(self, results: Callable[[Path], Any]) -> None:
        """Write nothing: the first rank does."""
