"""The systems by name."""

from __future__ import annotations

from collections.abc import Mapping

from .base import System
from .dynamic import Dynamic
from .dynamic_filters import DynamicFilters
from .gradual import Gradual
from .gradual_filters import GradualFilters
from .iterative import Iterative
from .one_shot import (
    OneShot,
    by_chance,
    by_magnitude,
    by_magnitude_in_each_layer,
    by_threshold,
    two_of_four,
)
from .tickets import FilterLottery, Lottery

SYSTEMS: Mapping[str, System] = {
    "magnitude-global": OneShot(by_magnitude),
    "magnitude-layer": OneShot(by_magnitude_in_each_layer),
    "threshold": OneShot(by_threshold),
    "random-weights": OneShot(by_chance),
    "two-of-four": OneShot(two_of_four),
    "iterative": Iterative(),
    "gradual": Gradual(),
    "lottery": Lottery(),
    "lottery-rewinding": Lottery(rewinds=True, scope="global"),
    "lottery-filters": FilterLottery(),
    "dynamic": Dynamic(),
    "dynamic-filters": DynamicFilters(),
    "gradual-filters": GradualFilters(),
}
"""By the name that ``--methods`` takes."""
