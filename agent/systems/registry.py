"""The systems by name."""

from __future__ import annotations

from collections.abc import Mapping

from .base import System
from .dynamic import Dynamic
from .dynamic_filters import DynamicFilters
from .gradual_filters import GradualFilters
from .tickets import FilterLottery, Lottery

SYSTEMS: Mapping[str, System] = {
    "lottery": Lottery(),
    "lottery-rewinding": Lottery(rewinds=True),
    "lottery-filters": FilterLottery(),
    "dynamic": Dynamic(),
    "dynamic-filters": DynamicFilters(),
    "gradual-filters": GradualFilters(),
}
"""By the name that ``--methods`` takes."""
