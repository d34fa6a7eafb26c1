"""``secateur runs``: list the runs in a folder."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from tyro.conf import Positional

from ..reporting.formatting import in_percent, percent
from .console import console
from .run_listing import Run, find_runs

_HEADINGS = ("run", "state", "model", "data", "method", "target", "MACs left", "dense", "pruned", "began")
_RIGHT_ALIGNED = ("MACs left", "dense", "pruned")


@dataclass(frozen=True)
class Runs:
    """List the runs in a folder with their states, options and results."""

    folder: Positional[Path] = Path("runs")
    """Folder of the runs; subfolders are searched, too."""
    json: bool = False
    """Print JSON instead of a table."""

    everyday: ClassVar[tuple[str, ...]] = ("folder", "json")
    example: ClassVar[str] = "secateur runs"

    def run(self) -> None:
        """Print the list."""
        runs = find_runs(self.folder)
        if self.json:
            json.dump([asdict(run) for run in runs], sys.stdout, indent=2)
            print()
            return
        table = Table()
        for heading in _HEADINGS:
            table.add_column(heading, justify="right" if heading in _RIGHT_ALIGNED else "left")
        for run in runs:
            table.add_row(*map(Text, _row(run, self.folder)))
        console().print(table if runs else f"no runs in {self.folder}")


def _row(run: Run, folder: Path) -> tuple[str, ...]:
    return (
        str(Path(run.folder).relative_to(folder)),
        run.state,
        run.model or "",
        run.data or "",
        run.method or "",
        run.target or "",
        "" if run.macs_ratio is None else percent(run.macs_ratio),
        "" if run.accuracy_dense is None else in_percent(run.accuracy_dense),
        "" if run.accuracy_pruned is None else in_percent(run.accuracy_pruned),
        run.began.replace("T", " "),
    )
