"""The systems by name."""

from __future__ import annotations

from collections.abc import Mapping

from .base import System

SYSTEMS: Mapping[str, System] = {}
"""By the name that ``--methods`` takes."""
