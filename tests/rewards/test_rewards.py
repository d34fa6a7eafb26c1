"""What rewards promise: what is better, said by arithmetic alone."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from secateur.rewards import (
    Outcome,
    Reward,
    Size,
    TargetRange,
    TargetReward,
    TryAndLearnReward,
    is_met,
    sample_reward,
)

SIZES: tuple[Size, ...] = ("filters", "params", "macs", "latency")

sizes = st.sampled_from(SIZES)
percents = st.floats(0, 100)
losses = st.floats(0, 10)
ratios = st.floats(0.01, 1)
bounds = st.floats(0.01, 100)


def outcome(accuracy: float, ratio: float, dense_accuracy: float = 90.0, loss: float = 0.5) -> Outcome:
    return Outcome(accuracy, dense_accuracy, loss, 0.3, 2.3, ratio, ratio, ratio, ratio)


@given(drop_bound=bounds, size=sizes, accuracy=percents)
def test_try_and_learn_pays_nothing_where_nothing_was_removed(
    drop_bound: float, size: Size, accuracy: float
) -> None:
    assert TryAndLearnReward(drop_bound, size)(outcome(accuracy, 1.0)) == 0


@given(drop_bound=bounds, size=sizes, drop=st.floats(-10, 90), ratio=st.floats(0.01, 0.99))
def test_try_and_learn_pays_inside_the_bound_and_charges_beyond_it(
    drop_bound: float, size: Size, drop: float, ratio: float
) -> None:
    assume(abs(drop - drop_bound) > 1e-6)
    paid = TryAndLearnReward(drop_bound, size)(outcome(90.0 - drop, ratio))
    assert (paid > 0) == (drop < drop_bound)


@given(drop_bound=bounds, accuracy=percents, dense_accuracy=percents, ratio=ratios)
def test_try_and_learn_is_the_product_of_huang_et_al(
    drop_bound: float, accuracy: float, dense_accuracy: float, ratio: float
) -> None:
    accuracy_term = (drop_bound - (dense_accuracy - accuracy)) / drop_bound
    paid = TryAndLearnReward(drop_bound)(outcome(accuracy, ratio, dense_accuracy))
    assert paid == pytest.approx(-accuracy_term * math.log(ratio))


@given(
    drop_bound=bounds, size=sizes, left=st.floats(0.01, 1), ratio=st.floats(0.1, 1), part=st.floats(0.1, 0.99)
)
def test_try_and_learn_pays_more_for_less_at_the_same_accuracy_inside_the_bound(
    drop_bound: float, size: Size, left: float, ratio: float, part: float
) -> None:
    accuracy = 90.0 - drop_bound * (1 - left)
    reward = TryAndLearnReward(drop_bound, size)
    assert reward(outcome(accuracy, part * ratio)) > reward(outcome(accuracy, ratio))


drops = st.floats(-10, 100)
any_ratios = st.floats(0, 3)


@given(drop_bound=bounds, size=sizes, ratio=any_ratios, one=drops, other=drops)
def test_try_and_learn_never_pays_for_lost_accuracy_whatever_the_size(
    drop_bound: float, size: Size, ratio: float, one: float, other: float
) -> None:
    reward = TryAndLearnReward(drop_bound, size)
    paid = [reward(outcome(90.0 - drop, ratio)) for drop in sorted((one, other))]
    assert paid[0] >= paid[1]


@given(drop_bound=bounds, size=sizes, drop=drops, one=any_ratios, other=any_ratios)
def test_try_and_learn_never_pays_for_size_inside_the_bound_nor_above_the_dense_network(
    drop_bound: float, size: Size, drop: float, one: float, other: float
) -> None:
    """Beyond the bound Huang et al. charge more for less, so that a cut is undone first."""
    small, large = sorted((one, other))
    assume(drop <= drop_bound or small >= 1)
    reward = TryAndLearnReward(drop_bound, size)
    assert reward(outcome(-drop, small, 0.0)) >= reward(outcome(-drop, large, 0.0))  # 90 would round it


@given(drop_bound=bounds, drop=drops, ratio=st.floats(1.001, 10))
def test_try_and_learn_charges_for_what_is_slower_than_the_dense_network(
    drop_bound: float, drop: float, ratio: float
) -> None:
    assert TryAndLearnReward(drop_bound, "latency")(outcome(90.0 - drop, ratio)) < 0


def test_try_and_learn_goes_on_without_a_jump_where_a_cut_is_no_smaller() -> None:
    reward = TryAndLearnReward(2.0)
    assert [reward(outcome(80.0, 1 + step)) for step in (-1e-9, 0.0, 1e-9)] == pytest.approx(
        [0, 0, 0], abs=1e-7
    )


@pytest.mark.parametrize("ratio", [0.0, -0.01])
@pytest.mark.parametrize("reward", [TryAndLearnReward(), TargetReward()])
def test_no_size_at_all_has_a_finite_reward(reward: Reward, ratio: float) -> None:
    assert math.isfinite(reward(outcome(89.0, ratio)))


@given(target=ratios, size=sizes, loss=losses, one=st.floats(1, 3), other=st.floats(1, 3))
def test_a_target_charges_more_the_slower_than_the_dense_network(
    target: float, size: Size, loss: float, one: float, other: float
) -> None:
    reward = TargetReward(target, size)
    paid = [reward(outcome(90.0, ratio, loss=loss)) for ratio in sorted((one, other))]
    assert paid[0] >= paid[1]


@pytest.mark.parametrize("reward", [TryAndLearnReward(), TargetReward()])
def test_a_size_that_is_no_number_is_not_taken_for_one(reward: Reward) -> None:
    assert math.isnan(reward(outcome(89.0, math.nan)))


@pytest.mark.parametrize(("reward", "unknown"), [(TryAndLearnReward(), "accuracy"), (TargetReward(), "loss")])
@pytest.mark.parametrize("ratio", [0.5, 1.5])
def test_a_measurement_that_is_no_number_is_not_taken_for_one(
    reward: Reward, unknown: str, ratio: float
) -> None:
    found = dataclasses.replace(outcome(89.0, ratio), **{unknown: math.nan})
    assert math.isnan(reward(found))


@given(target=ratios, size=sizes, one=losses, other=losses, ratio=ratios)
def test_at_the_same_size_a_target_ranks_by_the_loss_alone(
    target: float, size: Size, one: float, other: float, ratio: float
) -> None:
    assume(abs(one - other) > 1e-6)
    reward = TargetReward(target, size)
    paid, paid_other = (reward(outcome(90.0, ratio, loss=loss)) for loss in (one, other))
    assert (paid > paid_other) == (one < other)


@given(target=st.floats(0.1, 1), size=sizes, loss=losses, one=st.floats(0.03, 1), other=st.floats(0.03, 1))
def test_far_below_the_target_nothing_is_paid_for_being_smaller(
    target: float, size: Size, loss: float, one: float, other: float
) -> None:
    reward = TargetReward(target, size)
    low = target - 0.03
    smaller, larger = (outcome(90.0, max(1e-9, low - low * part), loss=loss) for part in (one, other))
    assert reward(smaller) == pytest.approx(reward(larger), abs=1e-9)


@given(target=st.floats(0.1, 1), size=sizes, loss=losses, below=st.floats(0, 0.03))
def test_a_little_below_the_target_is_paid_half_of_what_is_charged_above(
    target: float, size: Size, loss: float, below: float
) -> None:
    reward = TargetReward(target, size)
    paid = reward(outcome(90.0, target - below, loss=loss)) - reward(outcome(90.0, target, loss=loss))
    assert paid == pytest.approx(4 * below, abs=1e-9)


@given(target=st.floats(0.01, 0.98), size=sizes, loss=losses, above=st.floats(0.01, 1))
def test_every_bit_of_size_above_the_target_is_charged_the_same(
    target: float, size: Size, loss: float, above: float
) -> None:
    ratio = target + above * (1 - target)
    reward = TargetReward(target, size)
    charged = reward(outcome(90.0, target, loss=loss)) - reward(outcome(90.0, ratio, loss=loss))
    assert charged == pytest.approx(8 * (ratio - target))


def test_the_excess_loss_is_0_for_the_dense_network_and_1_for_blind_answers() -> None:
    assert outcome(90.0, 0.5, loss=0.3).excess_loss == 0
    assert outcome(90.0, 0.5, loss=2.3).excess_loss == 1


@pytest.mark.parametrize("blind", [0.3, 0.29, 0.0])
def test_the_excess_loss_of_a_network_that_knows_nothing_is_a_number(blind: float) -> None:
    clueless = dataclasses.replace(outcome(10.0, 0.5), constant_prediction_loss=blind)
    assert math.isfinite(clueless.excess_loss)
    assert clueless.excess_loss > 0


@pytest.mark.parametrize("price", [-1.0, math.nan, math.inf])
def test_a_price_for_size_that_would_be_a_gift_or_beyond_all_numbers_is_refused(price: float) -> None:
    with pytest.raises(ValueError, match=f"the overshoot price is {price}; it has to be at least 0"):
        TargetReward(overshoot_price=price)


def test_a_hundredth_of_the_dense_size_costs_as_much_as_a_twelfth_more_loss() -> None:
    reward = TargetReward(0.5)
    heavy, lossy = outcome(90.0, 0.51, loss=1.3), outcome(90.0, 0.5, loss=1.3 + 0.08 * 1.4)
    assert reward(heavy) == pytest.approx(reward(lossy), abs=0.01)


def test_a_network_that_is_better_than_the_dense_one_is_paid_for_it() -> None:
    assert TargetReward(0.5)(outcome(95.0, 0.5, loss=0.1)) > 0


@given(accuracy=percents, target=ratios)
def test_only_the_chosen_size_counts(accuracy: float, target: float) -> None:
    spread = Outcome(
        accuracy, 90.0, 0.5, 0.3, 2.3, macs_ratio=0.1, params_ratio=0.2, filters_ratio=0.3, latency_ratio=0.4
    )
    same = {"macs": 0.1, "params": 0.2, "filters": 0.3, "latency": 0.4}
    for size in SIZES:
        even = outcome(accuracy, same[size])
        for reward in (TargetReward(target, size), TryAndLearnReward(2.0, size)):
            assert reward(spread) == reward(even)


@pytest.mark.parametrize("target", [0.0, -0.5, 1.0001, math.nan, math.inf, "a", None, True])
def test_a_target_outside_its_range_is_refused_in_one_sentence(target: float) -> None:
    with pytest.raises(ValueError, match=r"^the target is .*; it has to be above 0 and at most 1$"):
        TargetReward(target)


@pytest.mark.parametrize(
    "ends", [(0.0, 0.5), (0.5, 1.1), (0.6, 0.5), (math.nan, 0.5), ("a", 0.5), (0.2, None)]
)
def test_a_range_of_targets_outside_its_range_is_refused_in_one_sentence(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"^targets are drawn between .*, the smaller first$"):
        TargetRange(*ends)


def test_a_range_draws_no_target_below_what_can_be_reached() -> None:
    assert TargetRange(0.2, 0.8).draw(0.0, smallest=0.4) == TargetReward(0.4)
    assert TargetRange(0.2, 0.8).draw(0.0, smallest=0.9) == TargetReward(0.9)
    assert TargetRange(0.2, 0.8).draw(0.0, smallest=0.1) == TargetReward(0.2)
    assert TargetRange(0.2, 0.8, "latency").draw(0.5, smallest=1.2) == TargetReward(1.0, "latency")


@given(st.floats(0, 1, exclude_max=True))
def test_a_range_draws_targets_within_it_and_a_fixed_reward_stays_itself(number: float) -> None:
    reward = sample_reward(TargetRange(0.3, 0.6, "params"), lambda: number)
    assert reward == TargetReward(reward.target or 0.0, "params")
    assert 0.3 <= (reward.target or 0.0) <= 0.6
    assert sample_reward(reward, lambda: 1 / 0) is reward


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan, math.inf, "5", None, True])
def test_a_bound_outside_its_range_is_refused_in_one_sentence(bound: float) -> None:
    with pytest.raises(
        ValueError, match=r"^the drop bound is .*; it has to be above 0 and at most 100 points$"
    ):
        TryAndLearnReward(bound)


@pytest.mark.parametrize("make", [TargetReward, TryAndLearnReward])
def test_a_size_that_nobody_knows_is_refused_before_anything_is_measured(make: type) -> None:
    with pytest.raises(
        ValueError, match="unknown size 'flops'; allowed are filters, params, macs and latency"
    ):
        make(size="flops")


def test_latency_that_was_not_measured_is_missed_in_one_sentence() -> None:
    unmeasured = dataclasses.replace(outcome(90.0, 0.5), latency_ratio=None)
    with pytest.raises(ValueError, match="the outcome has no latency; measure it or count"):
        TargetReward(0.5, "latency")(unmeasured)


@pytest.mark.parametrize("reward", [TargetReward(), TryAndLearnReward()])
def test_rewards_say_what_they_want(reward: Reward) -> None:
    assert (reward.target is None) != (reward.drop_bound is None)
    assert reward.size == "macs"


@given(target=ratios, size=sizes, ratio=ratios, accuracy=percents)
def test_a_target_is_met_by_size_alone_and_a_bound_by_the_drop_alone(
    target: float, size: Size, ratio: float, accuracy: float
) -> None:
    found = outcome(accuracy, ratio)
    assume(abs(ratio - target) > 1e-8)
    assume(abs(found.accuracy_drop - 2.0) > 1e-8)
    assert is_met(TargetReward(target, size), found) == (ratio < target)
    assert is_met(TryAndLearnReward(2.0, size), found) == (found.accuracy_drop <= 2.0)


def test_a_target_is_met_where_it_is_hit_exactly_whatever_rounding_did() -> None:
    assert is_met(TargetReward(0.3), outcome(90.0, 0.1 + 0.2))


def test_a_bound_is_met_where_it_is_hit_exactly_whatever_rounding_did() -> None:
    assert 90.3 - 90.1 > 0.2
    assert is_met(TryAndLearnReward(0.2), outcome(90.1, 0.5, dense_accuracy=90.3))
    assert not is_met(TryAndLearnReward(0.2), outcome(90.09, 0.5, dense_accuracy=90.3))


def test_rewards_are_imported_without_torch() -> None:
    code = "import sys, secateur.rewards; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
