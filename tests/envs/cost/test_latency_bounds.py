"""Target latencies that no cut has are refused with what to do."""

from __future__ import annotations

import pytest

from secateur.envs.cost.latency_bounds import check_between


def test_a_target_outside_is_told_the_range() -> None:
    check_between(0.5, 0.2, 1.0)
    for target in (0.1, 1.1):
        with pytest.raises(
            ValueError, match=r"takes 1 ms per batch, .* cut 0.2 ms; give a target between the two"
        ):
            check_between(target, 0.2, 1.0)


def test_where_no_cut_is_faster_there_is_no_range_but_advice() -> None:
    with pytest.raises(ValueError, match="no cut is faster here") as caught:
        check_between(0.1, 0.2711, 0.2001)
    assert "between the two" not in str(caught.value)
    assert str(caught.value).endswith("time larger batches (--latency-batch), or give --target-macs instead")
