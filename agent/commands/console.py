"""Where verbs print their pages."""

import sys

from rich.console import Console

_PAGE_WIDTH = 160
"""Columns of a page that no terminal limits."""


def console() -> Console:
    """Give the terminal, or a wide page where stdout is none."""
    return Console(width=None if sys.stdout.isatty() else _PAGE_WIDTH)
