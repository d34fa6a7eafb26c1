"""The search of the smallest size within a bound, on curves whose truth is known."""

from collections.abc import Callable

import numpy as np
import pytest

from secateur.agent.procedures.size_search import Drop, smallest_within

SIZES = 32


def measured(curve: Callable[[int], float], bound: float, margin: float = 0.0) -> Callable[[int], Drop]:
    """Return a measurement that is off by at most a margin, which the excess counts."""
    return lambda size: Drop(curve(size), min(curve(size) + margin - bound, curve(size)))


def least(checked: dict[int, Drop]) -> int | None:
    return min((size for size, found in checked.items() if found.excess <= 0), default=None)


def convex(size: int) -> float:
    """Fall from 40 points at the smallest size to 0 at the dense one."""
    return 40 * (1 - size / SIZES) ** 3


@pytest.mark.parametrize("bound", [0.5, 1, 2, 5, 20])
def test_without_noise_the_smallest_size_within_the_bound_is_found(bound: float) -> None:
    checked = smallest_within(SIZES, measured(convex, bound), measured(convex, bound), bound, 5)
    best = next(size for size in range(SIZES) if convex(size) <= bound)
    found = least(checked)
    assert found is not None
    assert found == best


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_what_a_full_recovery_gains_more_is_learned_and_used(share: float) -> None:
    forecast, check = measured(convex, 2), measured(lambda size: share * convex(size), 2)
    cautious = next(size for size in range(SIZES) if forecast(size).excess <= 0)
    learned = least(smallest_within(SIZES, forecast, check, 2, 3))
    assert learned is not None
    assert learned < cautious
    assert share * convex(learned) <= 2


def test_a_size_that_does_not_hold_is_followed_by_a_larger_one() -> None:
    checked = smallest_within(SIZES, measured(convex, 2), measured(lambda size: 1.5 * convex(size), 2), 2, 3)
    first, second = list(checked)[:2]
    assert checked[first].excess > 0
    assert second > first
    assert checked[second].excess <= 0


def test_the_last_check_is_of_the_least_cut_if_no_other_was_within() -> None:
    for checks in (2, 3, 5):
        checked = smallest_within(SIZES, measured(convex, 1), measured(lambda size: 9.0, 1), 1, checks)
        assert len(checked) <= checks
        assert list(checked)[-1] == SIZES - 1
        assert least(checked) is None


def test_if_no_size_is_foretold_to_hold_the_least_cut_is_checked_first() -> None:
    checked = smallest_within(SIZES, measured(lambda size: 9.0, 1), measured(lambda size: 0.0, 1), 1, 1)
    assert list(checked) == [SIZES - 1]


@pytest.mark.parametrize("checks", [1, 2, 3, 4])
@pytest.mark.parametrize("sizes", [1, 2, 5, 32])
def test_no_size_is_checked_twice_and_none_more_often_than_allowed(sizes: int, checks: int) -> None:
    random = np.random.default_rng(sizes)
    for _ in range(200):
        drops = random.normal(1, 2, (2, sizes))
        seen: list[int] = []

        def check(size: int, drops: np.ndarray = drops[1], seen: list[int] = seen) -> Drop:
            seen.append(size)
            return Drop(drops[size], drops[size] - 1)

        checked = smallest_within(
            sizes, lambda size, d=drops[0]: Drop(d[size], d[size] - 1), check, 1, checks
        )
        assert seen == list(checked)
        assert len(set(seen)) == len(seen) <= checks
        assert set(seen) <= set(range(sizes))


def kept_in_truth(margin: float) -> tuple[int, int]:
    """Search 400 networks with noise of half a point; return how many kept the bound, of how many found.

    Args:
        margin: Distance of the upper end of the interval, points.
    """
    random, kept, found = np.random.default_rng(0), 0, 0
    for _ in range(400):
        scale, share, bound = random.uniform((5, 0.1, 1.5), (60, 1, 4))
        full = share * scale * (1 - np.arange(SIZES) / SIZES) ** 3
        shared = random.normal(0, 0.35)  # of the same images, so it is the same for all sizes
        forecasts = full / share + random.normal(0, 0.5, SIZES)
        checks = full + shared + random.normal(0, 0.35, SIZES)
        forecast, check = (measured(drops.__getitem__, bound, margin) for drops in (forecasts, checks))
        smallest = least(smallest_within(SIZES, forecast, check, bound, 3))
        if smallest is not None:
            found += 1
            kept += bool(full[smallest] <= bound)
    return kept, found


def test_what_holds_on_unseen_images_holds_in_truth_nineteen_times_in_twenty() -> None:
    kept, found = kept_in_truth(1.96 * 0.5)
    assert found > 380
    assert kept >= 0.95 * found


def test_without_the_interval_the_bound_would_be_missed_more_often() -> None:
    kept, found = kept_in_truth(0)
    assert kept < 0.95 * found
