"""``secateur report``: the page of a finished run, again."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from .console import console


@dataclass(frozen=True)
class Report:
    """Write report.html of a finished run again, from its report.json."""

    folder: Positional[Path]
    """Folder of a prune run."""

    def run(self) -> None:
        """Write and say where."""
        from ..reporting.report import rewrite_page  # here, as no other verb needs matplotlib to begin

        console().print(str(rewrite_page(self.folder)), soft_wrap=True, markup=False)
