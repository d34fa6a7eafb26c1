"""What a reward is, as JSON can hold it."""

import dataclasses
import math
from numbers import Integral, Real
from typing import Any

from .reward import RewardFunction, as_reward
from .target import TargetReward
from .target_range import TargetRange
from .try_and_learn import TryAndLearnReward

_DEEPEST = 3
"""Lists and dictionaries inside each other that are written out."""


def describe_reward(judge: RewardFunction | TargetRange) -> dict[str, Any]:
    """Describe a reward of any kind as far as plain values tell.

    Args:
        judge: A reward, a range of targets, or any function of an outcome.

    Returns:
        ``name`` and the settings of a reward of this package; else ``name``, all public attributes, objects
        by their names, and ``target``, ``drop_bound`` and ``size``, see :func:`.reward.as_reward`.

    Raises:
        TypeError: If it is no reward.
        ValueError: If it wants what no reward can.
    """
    if isinstance(judge, TargetRange | TargetReward | TryAndLearnReward):
        return {"name": type(judge).__name__, **dataclasses.asdict(judge)}
    reward = as_reward(judge)
    wish = {"target": reward.target, "drop_bound": reward.drop_bound, "size": reward.size}
    attributes = {name: value for name, value in _attributes(judge).items() if not name.startswith("_")}
    described: dict[str, Any] = _plain({"name": _name(judge), **attributes, **wish}, _DEEPEST)
    return described


def _attributes(judge: RewardFunction) -> dict[str, Any]:
    if dataclasses.is_dataclass(judge):
        return {field.name: getattr(judge, field.name) for field in dataclasses.fields(judge)}
    return getattr(judge, "__dict__", {})


def _plain(value: Any, depth: int) -> Any:
    """Turn a value into what JSON holds; what it cannot hold becomes its name, which runs alike share."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple) and depth:
        return [_plain(entry, depth - 1) for entry in value]
    if isinstance(value, dict) and depth:
        return {str(name): _plain(entry, depth - 1) for name, entry in value.items()}
    return _name(value)


def _name(value: Any) -> str:
    return str(getattr(value, "__name__", type(value).__name__))
