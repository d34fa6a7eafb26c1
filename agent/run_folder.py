"""The folder of a run, and what goes into it while the run goes on."""

import dataclasses
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from stable_baselines3.common.logger import Logger, configure

from ..envs.files import write_aside

NOT_TEXT = ("stdout", "log", "json", "csv")
"""Outputs of SB3's logger that cannot show figures and tables."""


class RunFolder:
    """A new folder with a TensorBoard event file.

    Args:
        path: The folder; made here.
        config: Everything that was asked for, a dataclass; written as ``config.yaml``.

    Raises:
        ValueError: If the folder holds something already, or is a file.
    """

    def __init__(self, path: Path, config: Any) -> None:
        check_free(path)
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.command = repeat_command()
        content = {"command": self.command, **_plain(dataclasses.asdict(config))}
        text = yaml.safe_dump(content, sort_keys=False)
        write_aside(path / "config.yaml", lambda aside: aside.write_text(text))
        self.logger: Logger = configure(str(path), ["tensorboard"])
        self.log_text("configuration", f"```yaml\n{text}```")

    def log(self, values: dict[str, float], step: int) -> None:
        """Write scalars to TensorBoard."""
        for name, value in values.items():
            self.logger.record(name, value)
        self.logger.dump(step)

    def log_text(self, name: str, markdown: str) -> None:
        """Write a page to TensorBoard."""
        self.logger.record(name, markdown, exclude=NOT_TEXT)
        self.logger.dump(0)


def check_free(path: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        ValueError: If it does, or is a file.
    """
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise ValueError(f"{path} exists and is not empty; give --out a new folder, nothing is overwritten")


def default_folder(*parts: str) -> Path:
    """Name a new folder under ``runs`` by what runs and when."""
    name = "-".join(part.replace("/", "_").replace(":", "_") for part in parts)
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def repeat_command() -> str:
    """Give the command line that started this process, as far as it was secateur's."""
    program = Path(sys.argv[0]).name
    return shlex.join(["secateur", *sys.argv[1:]]) if program in ("secateur", "__main__.py", "cli.py") else ""


def _plain(value: Any) -> Any:
    """Turn paths and tuples into what YAML writes without tags."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
