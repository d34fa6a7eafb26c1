"""The systems by name."""

from __future__ import annotations

from collections.abc import Mapping

from .base import System
from .blocks import BLOCKS

SYSTEMS: Mapping[str, System] = {**BLOCKS}
"""By the name that ``--methods`` takes."""
