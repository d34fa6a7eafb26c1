"""The console for the results of verbs."""

import sys

from rich.console import Console

_PAGE_WIDTH = 160
"""Columns if stdout is not a terminal."""


def console() -> Console:
    """Return a console as wide as the terminal, or :data:`_PAGE_WIDTH` if stdout is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else _PAGE_WIDTH)
