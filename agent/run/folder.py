"""The folder of a run: its configuration, logs, checkpoints and lock."""

import contextlib
import json
import shlex
import shutil
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat, configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ...envs.cost.latency_table import LatencyTable
from ...envs.evaluation.journal import Journal
from ...envs.io.atomic_write import write_atomically
from ...envs.io.memory import is_out_of_memory
from ...envs.io.run_files import CHECKPOINTS, CONFIG, JOURNAL, LATENCY
from ...envs.io.untrusted import parse_json, read_text
from ...envs.io.user_code import users_line
from ...envs.modules.process_group import is_lost_connection
from ...envs.recovery.checkpoint import Checkpoint
from .flat_options import flat_options, read_config
from .graceful_stop import GracefulStop
from .locks import LOCK, lock_folder, unlock_folder
from .new_folder import check_new_folder, half_written, make_folder, remove_empty
from .origin import NOTHING_KNOWN, Origin

NOT_TEXT = ("stdout", "log", "json", "csv")
"""Outputs of SB3's logger that cannot show figures and tables."""


class RunFolder:
    """Hold the results of a run and the checkpoints that it needs to resume.

    As a context manager it makes the first Ctrl-C stop the run at the next call of :attr:`check`, and deletes
    the checkpoints when the run has finished. A new run that fails before its first result leaves nothing
    behind.

    Args:
        path: The folder; created if it does not exist.
        config: All options of the run, a dataclass; written to ``config.yaml``.
        resumed: Whether to continue the run of an earlier process in this folder.
        advice: What resumes the run, shown when it is interrupted; None is the command ``secateur resume``.
        origin: What the run begins with, beside its options.
        stopping: What stops the run; None is a signal.

    Raises:
        ValueError: If the folder of a new run is not empty or is a file, another process is working in it, or
            the run was begun with other weights or data.
        OSError: If the folder cannot be written to.
    """

    def __init__(
        self,
        path: Path,
        config: Any,
        *,
        resumed: bool = False,
        advice: str | None = None,
        origin: Origin = NOTHING_KNOWN,
        stopping: GracefulStop | None = None,
    ) -> None:
        if resumed:
            origin.check(path)
        else:
            check_new_folder(path)
        self.path, self._resumed, self.keeps_checkpoints = path, resumed, False
        self.advice = advice or shlex.join(["secateur", "resume", str(path)])
        self._stopping = stopping or GracefulStop(self.advice)
        self.check = self._stopping.check
        with contextlib.ExitStack() as cleanup:
            self._made = make_folder(path)
            cleanup.callback(remove_empty, self._made)
            self._lock = lock_folder(path)
            cleanup.callback(unlock_folder, self._lock)
            if not resumed:
                check_new_folder(path)  # again, as another process may have written before the lock
            cleanup.pop_all()
            cleanup.callback(self._leave, failed=True)
            for file in half_written(path):
                file.unlink()
            self.journal = Journal(path / CHECKPOINTS / JOURNAL, self.check)
            self._begin(config, origin)
            cleanup.pop_all()

    def _begin(self, config: Any, origin: Origin) -> None:
        if self._resumed:
            self.command = str(read_config(self.path).get("command", ""))
            self.logger = Logger(str(self.path), [_Continued(str(self.path))])
            return
        self.command = repeat_command()
        content = {"verb": type(config).__name__.lower(), "command": self.command}
        text = yaml.safe_dump(content | flat_options(config) | origin.known, sort_keys=False)
        write_atomically(self.path / CONFIG, lambda aside: aside.write_text(text))
        self.logger = configure(str(self.path), ["tensorboard"])
        self.log_text("configuration", f"```yaml\n{text}```")

    def __enter__(self) -> Self:
        self._stopping.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(self._stopping.__exit__)  # last, as signals should not interrupt the others
            # A run that was stopped, whose disk or memory was full, one of whose processes was killed, or in
            # which the user's code failed may go on; what was refused once is refused again.
            may_go_on = error is not None and _may_go_on(error)
            if error is not None and may_go_on and not isinstance(error, KeyboardInterrupt):
                error.add_note(f"once that is mended, go on with: {self.advice}")
            refused = isinstance(error, Exception) and not may_go_on
            cleanup.callback(self._leave, failed=refused)
            with contextlib.nullcontext() if error is None else contextlib.suppress(OSError):
                self.logger.close()
            if kind is None and not self.keeps_checkpoints:
                shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)

    def _leave(self, *, failed: bool) -> None:
        """Unlock the folder; if a new run failed without results, delete its files, too."""
        discard = failed and not self._resumed and all(map(_has_no_results, self.path.rglob("*")))
        if discard:
            for entry in self.path.iterdir():
                if entry.name != LOCK:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        unlock_folder(self._lock)
        if discard:
            remove_empty(self._made)

    def checkpoint(self, name: str) -> Checkpoint:
        """Return the checkpoint of one of the run's trainings."""
        return Checkpoint(self.path / CHECKPOINTS / f"{name}.checkpoint")

    def write(self, results: Callable[[Path], Any]) -> None:
        """Let a function write results into the folder.

        Args:
            results: The function; it gets the path of the folder.
        """
        results(self.path)

    def save_latency_table(self, table: LatencyTable) -> None:
        """Save a latency table for :func:`load_latency_table`."""

        def save(path: Path) -> None:
            file = path / CHECKPOINTS / LATENCY
            file.parent.mkdir(exist_ok=True)
            write_atomically(file, lambda aside: aside.write_text(json.dumps(table.to_dict())))

        self.write(save)

    def log(self, values: dict[str, float], step: int) -> None:
        """Write scalars to TensorBoard."""
        for name, value in values.items():
            self.logger.record(name, value)
        self.logger.dump(step)

    def log_text(self, name: str, markdown: str) -> None:
        """Write Markdown text to TensorBoard."""
        self.logger.record(name, markdown, exclude=NOT_TEXT)
        self.logger.dump(0)


class _Continued(TensorBoardOutputFormat):
    """Skip entries that an earlier process of this run has written; a resumed search logs them again."""

    def __init__(self, folder: str) -> None:
        events = EventAccumulator(folder).Reload()
        tags: dict[str, Any] = events.Tags()
        self._written = {
            **{tag: events.Scalars(tag)[-1].step for tag in tags["scalars"]},
            **{tag: events.Images(tag)[-1].step for tag in tags["images"]},
            **{tag.removesuffix("/text_summary"): events.Tensors(tag)[-1].step for tag in tags["tensors"]},
        }
        super().__init__(folder)

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Write the entries that are new at a step."""
        new = {key: value for key, value in key_values.items() if step > self._written.get(key, -1)}
        super().write(new, {key: key_excluded[key] for key in new}, step)


def load_latency_table(path: Path) -> LatencyTable | None:
    """Load the latencies of an interrupted run, as a new measurement would give different ones.

    Returns:
        The latency table; None if the run has saved none.

    Raises:
        ValueError: If the table cannot be read.
    """
    file = path / CHECKPOINTS / LATENCY
    try:
        return LatencyTable.from_dict(parse_json(read_text(file))) if file.is_file() else None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is not a latency table: {error}") from error


def _may_go_on(error: BaseException) -> bool:
    is_of_the_machine = isinstance(error, OSError) or is_lost_connection(error) or is_out_of_memory(error)
    return is_of_the_machine or users_line(error) is not None


def _has_no_results(path: Path) -> bool:
    """Return whether a file holds no results of the run."""
    return (
        path.is_dir() or path.name in (CONFIG, LATENCY, LOCK) or path.name.startswith("events.out.tfevents")
    )


def default_folder(*parts: str) -> Path:
    """Return the path of a folder under ``runs``, named after ``parts`` and the current time."""
    name = "-".join(part.replace("/", "_").replace(":", "_") for part in parts)
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def repeat_command() -> str:
    """Return the command line of this process, or "" if it is not secateur's."""
    program = Path(sys.argv[0]).name
    return shlex.join(["secateur", *sys.argv[1:]]) if program in ("secateur", "__main__.py", "cli.py") else ""
