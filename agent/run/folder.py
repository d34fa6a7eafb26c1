"""The run folder, and the files that a run writes into it."""

import dataclasses
import json
import shlex
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import yaml
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat, configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ...envs.cost.latency_table import LatencyTable
from ...envs.evaluation.journal import Journal
from ...envs.io.atomic_write import write_atomically
from ...envs.io.run_files import CHECKPOINTS, CONFIG, JOURNAL, LATENCY
from ...envs.io.untrusted import parse_json, read_text, read_yaml
from ...envs.recovery.checkpoint import Checkpoint
from .graceful_stop import GracefulStop
from .locks import lock_folder

NOT_TEXT = ("stdout", "log", "json", "csv")
"""Outputs of SB3's logger that cannot show figures and tables."""


class RunFolder:
    """Manage the folder of a run: configuration, logs, and the state for resuming it.

    Within its context, Ctrl-C takes effect at the next call of :attr:`check`. A run that finishes deletes its
    checkpoints.

    Args:
        path: Path of the folder; it is created.
        config: The configuration, a dataclass; written to ``config.yaml``.
        resumed: Whether to resume the run in an existing folder.

    Raises:
        ValueError: If the folder of a new run is not empty or is a file, or another process works in it.
    """

    def __init__(self, path: Path, config: Any, *, resumed: bool = False) -> None:
        if not resumed:
            check_new_folder(path)
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = lock_folder(path)
        self._stopping = GracefulStop(shlex.join(["secateur", "resume", str(path)]))
        self.check = self._stopping.check
        self.journal = Journal(path / CHECKPOINTS / JOURNAL, self.check)
        if resumed:
            for half in path.rglob(".*.tmp"):  # written when the process was killed
                half.unlink()
            self.command = str(read_config(path).get("command", ""))
            self.logger = Logger(str(path), [_Continued(str(path))])
        else:
            self.command = repeat_command()
            content = {"verb": type(config).__name__.lower(), "command": self.command}
            text = yaml.safe_dump({**content, **_plain(dataclasses.asdict(config))}, sort_keys=False)
            write_atomically(path / CONFIG, lambda aside: aside.write_text(text))
            self.logger = configure(str(path), ["tensorboard"])
            self.log_text("configuration", f"```yaml\n{text}```")

    def __enter__(self) -> Self:
        self._stopping.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopping.__exit__()
        self.logger.close()
        if kind is None:
            shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)
        self._lock.release()

    def checkpoint(self, name: str) -> Checkpoint:
        """Return the checkpoint of a training of this run."""
        return Checkpoint(self.path / CHECKPOINTS / f"{name}.checkpoint")

    def save_latency_table(self, table: LatencyTable) -> None:
        """Save a latency table for :func:`load_latency_table`."""
        path = self.path / CHECKPOINTS / LATENCY
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, lambda aside: aside.write_text(json.dumps(table.to_dict())))

    def log(self, values: dict[str, float], step: int) -> None:
        """Write scalars to TensorBoard."""
        for name, value in values.items():
            self.logger.record(name, value)
        self.logger.dump(step)

    def log_text(self, name: str, markdown: str) -> None:
        """Write a page to TensorBoard."""
        self.logger.record(name, markdown, exclude=NOT_TEXT)
        self.logger.dump(0)


class _Continued(TensorBoardOutputFormat):
    """Skip entries that an earlier process wrote: a resumed search logs them again."""

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
        fresh = {key: value for key, value in key_values.items() if step > self._written.get(key, -1)}
        super().write(fresh, {key: key_excluded[key] for key in fresh}, step)


def read_config(path: Path) -> dict[str, Any]:
    """Read the configuration of a run.

    Raises:
        ValueError: If the folder is not a run folder.
    """
    file = path / CONFIG
    if not file.is_file():
        raise ValueError(f"{path} is no run: it has no {CONFIG}")
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file} does not describe a run")
    return content


def load_latency_table(path: Path) -> LatencyTable | None:
    """Load the latency table of an interrupted run: a new measurement would give other numbers.

    Raises:
        ValueError: If the file cannot be read.
    """
    file = path / CHECKPOINTS / LATENCY
    try:
        return LatencyTable.from_dict(parse_json(read_text(file))) if file.is_file() else None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} holds no latencies: {error}") from error


def check_new_folder(path: Path) -> None:
    """Refuse a folder that is not empty.

    Raises:
        ValueError: If the folder is not empty, or is a file.
    """
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise ValueError(f"{path} exists and is not empty; give --out a new folder, nothing is overwritten")


def default_folder(*parts: str) -> Path:
    """Name a new folder under ``runs`` from some words and the time."""
    name = "-".join(part.replace("/", "_").replace(":", "_") for part in parts)
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def repeat_command() -> str:
    """Return the command line of this process, or "" if it is not secateur's."""
    program = Path(sys.argv[0]).name
    return shlex.join(["secateur", *sys.argv[1:]]) if program in ("secateur", "__main__.py", "cli.py") else ""


def _plain(value: Any) -> Any:
    """Convert paths and tuples to types that YAML writes without tags."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
