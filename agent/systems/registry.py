"""The systems by name."""

from __future__ import annotations

from collections.abc import Mapping

from .base import System
from .int8 import Int8, PrunedInt8

SYSTEMS: Mapping[str, System] = {
    "int8": Int8(),
    "fpgm-int8": PrunedInt8(),
}
"""By the name that ``--methods`` takes."""
