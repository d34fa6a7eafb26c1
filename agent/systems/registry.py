"""The systems by name."""

from __future__ import annotations

from collections.abc import Mapping

from .base import System
from .blocks import BLOCKS
from .dynamic import Dynamic
from .dynamic_filters import DynamicFilters
from .filters import FILTERS, TRAINED_ON
from .gradual import Gradual
from .gradual_filters import GradualFilters
from .int8 import INT8
from .iterative import Iterative
from .one_shot import (
    OneShot,
    by_chance,
    by_magnitude,
    by_magnitude_in_each_layer,
    by_threshold,
    two_of_four,
)
from .rank import Rank
from .small_dense import SmallDense
from .tickets import FilterLottery, Lottery

SYSTEMS: Mapping[str, System] = {
    **FILTERS,
    "magnitude-global": OneShot(by_magnitude),
    "magnitude-layer": OneShot(by_magnitude_in_each_layer),
    "threshold": OneShot(by_threshold),
    "random-weights": OneShot(by_chance),
    "two-of-four": OneShot(two_of_four),
    "iterative": Iterative(),
    "gradual": Gradual(),
    "lottery": Lottery(),
    "lottery-rewinding": Lottery(rewinds=True, scope="global"),
    "dynamic": Dynamic(),
    "lottery-filters": FilterLottery(),
    "gradual-filters": GradualFilters(),
    "dynamic-filters": DynamicFilters(),
    **BLOCKS,
    "rank": Rank(),
    "filters-rank": Rank(filters="fpgm-global"),
    **INT8,
    "small-dense": SmallDense(taught=False),
    "small-dense-taught": SmallDense(taught=True),
}
"""By the name that ``--methods`` takes."""

DENSE_SIZED = (TRAINED_ON, "int8")
"""Systems that keep the size of the dense network, whatever the target is."""
