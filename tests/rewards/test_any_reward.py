"""Any callable is a reward: what it wants beside its judgement, and how it is described."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from secateur.rewards import (
    FunctionReward,
    Outcome,
    TargetRange,
    TargetReward,
    TryAndLearnReward,
    as_reward,
    describe_reward,
    is_met,
)
from support.rewards import ANY, Weighed


def outcome(accuracy: float, ratio: float) -> Outcome:
    return Outcome(accuracy, 90.0, 0.5, 0.3, 2.3, ratio, ratio, ratio, ratio)


@pytest.mark.parametrize("name", ANY)
def test_any_callable_is_a_reward(name: str) -> None:
    reward, found = as_reward(ANY[name]), outcome(80.0, 0.3)
    assert reward(found) == ANY[name](found)
    assert as_reward(reward) is reward


def test_a_function_wants_no_size_and_no_bound_and_looks_at_the_macs() -> None:
    reward = as_reward(ANY["function"])
    assert (reward.target, reward.drop_bound, reward.size) == (None, None, "macs")
    assert is_met(ANY["function"], outcome(0.0, 1.0))


def test_what_a_callable_says_of_its_wishes_counts() -> None:
    aiming, whole = as_reward(ANY["dataclass"]), as_reward(ANY["whole"])
    assert (aiming.target, aiming.drop_bound, aiming.size) == (0.4, None, "macs")
    assert whole is ANY["whole"]
    assert [is_met(ANY["dataclass"], outcome(90.0, ratio)) for ratio in (0.4, 0.41)] == [True, False]


@pytest.mark.parametrize("name", ANY)
def test_a_reward_of_any_kind_is_described_as_json_and_alike_each_time(name: str) -> None:
    described = describe_reward(ANY[name])
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert {"name", "target", "drop_bound", "size"} <= set(described)
    assert " at 0x" not in str(described)


def test_settings_are_described_as_far_as_they_are_plain() -> None:
    assert describe_reward(Weighed(0.5)) == {
        "name": "Weighed",
        "weight": 0.5,
        "weights": "ndarray",
        "target": None,
        "drop_bound": None,
        "size": "macs",
    }
    looped: dict[str, Any] = {"limits": (1, math.inf)}
    looped["self"] = looped
    odd = Weighed()
    odd.weight = looped  # type: ignore[assignment]
    assert json.dumps(describe_reward(odd), allow_nan=False)
    assert describe_reward(odd)["weight"]["limits"] == [1, "inf"]


class Slotted:
    """A reward whose settings are in slots, and in a dictionary."""

    __slots__ = ("__dict__", "_hidden", "weight")

    def __init__(self) -> None:
        self.weight, self.power, self._hidden = 0.5, 2, 1

    def __call__(self, outcome: Outcome) -> float:
        return self.weight * outcome.accuracy


def test_settings_in_slots_are_described_like_others() -> None:
    goal = {"target": None, "drop_bound": None, "size": "macs"}
    assert describe_reward(Slotted()) == {"name": "Slotted", "power": 2, "weight": 0.5, **goal}


@pytest.mark.parametrize(
    "reward", [TargetReward(0.3, "params"), TryAndLearnReward(1.5), TargetRange(0.3, 0.6, "latency")]
)
def test_rewards_of_this_package_are_described_by_their_settings_alone(reward: Any) -> None:
    assert describe_reward(reward) == {"name": type(reward).__name__, **dataclasses.asdict(reward)}


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        (3, r"^the reward is 3; give a function of an Outcome"),
        (TargetReward, r"^the reward is the class TargetReward; give a function"),
    ],
)
def test_what_is_no_function_is_refused(judge: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        as_reward(judge)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"target": 1.5}, "the target of the reward is 1.5; allowed is above 0 and at most 1, or None"),
        ({"target": math.nan}, "the target of the reward is nan"),
        ({"drop_bound": 0}, "the drop bound of the reward is 0; allowed is above 0 and at most 100, or None"),
        ({"drop_bound": "2"}, "the drop bound of the reward is '2'"),
        ({"size": "flops"}, "unknown size 'flops'"),
    ],
)
def test_wishes_that_no_reward_can_have_are_refused(wish: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        as_reward(FunctionReward(ANY["function"], **wish))
