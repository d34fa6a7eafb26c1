"""``secateur report``: rewrite the page of a finished run."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from ...envs.io.run_files import COMPARISON
from .console import console


@dataclass(frozen=True)
class Report:
    """Rewrite report.html of a finished run from its report.json."""

    folder: Positional[Path]
    """Folder of a prune run, or of a comparison, whose page is compare.html."""

    everyday: ClassVar[tuple[str, ...]] = ("folder",)
    example: ClassVar[str] = "secateur report runs/mine"

    def run(self) -> None:
        """Write the page and print its path."""
        from ..reporting.comparison import rewrite_comparison_page  # here, as matplotlib is slow to import
        from ..reporting.report import rewrite_page

        is_comparison = (self.folder / COMPARISON).is_file()
        page = (rewrite_comparison_page if is_comparison else rewrite_page)(self.folder)
        console().print(str(page), soft_wrap=True, markup=False)
