"""The systems by name."""

from __future__ import annotations

from collections.abc import Mapping

from .base import System
from .rank import Rank
from .small_dense import SmallDense

SYSTEMS: Mapping[str, System] = {
    "rank": Rank(),
    "filters-rank": Rank(filters="fpgm-global"),
    "small-dense": SmallDense(taught=False),
    "small-dense-taught": SmallDense(taught=True),
}
"""By the name that ``--methods`` takes."""
