"""``secateur report``: rewrite the page of a finished run."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from .console import console


@dataclass(frozen=True)
class Report:
    """Rewrite report.html of a finished run from its report.json."""

    folder: Positional[Path]
    """Folder of a prune run."""

    everyday: ClassVar[tuple[str, ...]] = ("folder",)
    example: ClassVar[str] = "secateur report runs/mine"

    def run(self) -> None:
        """Write the page and print its path."""
        from ..reporting.report import rewrite_page  # here, as matplotlib is slow to import

        console().print(str(rewrite_page(self.folder)), soft_wrap=True, markup=False)
