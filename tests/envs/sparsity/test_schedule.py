"""The schedule of gradual pruning."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.envs.sparsity import cubic_sparsity
from secateur.envs.sparsity.schedule import Updates

_SHARES = st.floats(0, 1)


@given(st.integers(0, 500), st.integers(1, 50), st.integers(1, 40), _SHARES, _SHARES)
def test_the_schedule_is_the_formula_of_the_paper_at_every_update(begin, n, dt, s_i, s_f):
    for update in range(n + 1):
        t = begin + update * dt
        formula = s_f + (s_i - s_f) * (1 - (t - begin) / (n * dt)) ** 3
        assert cubic_sparsity(t, begin, begin + n * dt, s_i, s_f) == pytest.approx(formula, abs=1e-12)


@given(st.integers(0, 100), st.integers(0, 100), _SHARES, _SHARES)
def test_the_schedule_goes_one_way_from_the_initial_to_the_final_sparsity(begin, length, first, second):
    initial, final = sorted((first, second))
    values = [
        cubic_sparsity(step, begin, begin + length, initial, final) for step in range(begin + length + 3)
    ]
    assert all(later >= earlier - 1e-12 for earlier, later in pairwise(values))
    assert values[:begin] == pytest.approx([initial] * begin)
    assert values[begin + length :] == [final] * 3


def test_half_way_seven_eighths_are_removed():
    assert cubic_sparsity(150, 100, 200, 0.0, 0.8) == pytest.approx(0.7)


def test_an_end_before_the_beginning_is_refused():
    with pytest.raises(ValueError, match="pruning ends at step 3; allowed is 5"):
        cubic_sparsity(0, 5, 3, 0.0, 0.5)


@given(st.integers(0, 500), st.integers(1, 60))
def test_masks_change_at_about_as_many_steps_as_wanted_and_at_the_last(last, number):
    updates = Updates.spread(last, number)
    steps = [step for step in range(1, last + 3) if step in updates]
    assert len(steps) == len(updates)
    assert steps[-1:] == ([last] if last else [])
    assert min(last, number) <= len(updates) <= 2 * number
