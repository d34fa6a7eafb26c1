"""Users' numbers are numbers in their ranges, and nothing else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from secateur.envs.io.ranges import check_real, check_seed, check_whole


@pytest.mark.parametrize("value", [True, False, np.True_, "1", None, 1.5, math.nan, -1])
def test_what_is_no_whole_number_of_the_range_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^epochs is {value}; allowed is at least 0"):
        check_whole("epochs", value, 0)
    with pytest.raises(ValueError, match=rf"^seed is {value}; allowed is 0 to 4294967295"):
        check_seed(value)


@pytest.mark.parametrize("value", [True, False, np.True_, "1", None, math.inf])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^decay is {value}; allowed is at least 0, a finite number$"):
        check_real("decay", value, 0)


@pytest.mark.parametrize("one", [1, np.int32(1), np.uint8(1)])
def test_numbers_of_numpy_are_taken(one: Any) -> None:
    check_whole("epochs", one, 1)
    check_real("decay", np.float32(one), 0, 1)
