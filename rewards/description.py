"""Rewards as plain data for JSON."""

import dataclasses
import math
from numbers import Integral, Real
from typing import Any

from .reward import RewardFunction, as_reward
from .target import TargetReward
from .target_range import TargetRange
from .try_and_learn import TryAndLearnReward

_MAX_DEPTH = 3
"""Largest depth of nested lists and dictionaries; deeper ones are replaced by their names."""


def describe_reward(function: RewardFunction | TargetRange) -> dict[str, Any]:
    """Describe a reward of any kind with plain values.

    Args:
        function: A reward, a range of targets, or any function of an outcome.

    Returns:
        ``name`` and the settings of a reward of this package. For others ``name``, all public attributes,
        with names in place of objects, and ``target``, ``drop_bound`` and ``size`` (see
        :func:`.reward.as_reward`).

    Raises:
        TypeError: If it is not a reward.
        ValueError: If its target or drop bound is out of range, or its size is unknown.
    """
    if isinstance(function, TargetRange | TargetReward | TryAndLearnReward):
        return {"name": type(function).__name__, **dataclasses.asdict(function)}
    reward = as_reward(function)
    goal = {"target": reward.target, "drop_bound": reward.drop_bound, "size": reward.size}
    attributes = {name: value for name, value in _attributes(function).items() if not name.startswith("_")}
    described: dict[str, Any] = _plain({"name": _name(function), **attributes, **goal}, _MAX_DEPTH)
    return described


def _attributes(function: RewardFunction) -> dict[str, Any]:
    if dataclasses.is_dataclass(function):
        return {field.name: getattr(function, field.name) for field in dataclasses.fields(function)}
    state = object.__getstate__(function)  # a dictionary, or that and one of the slots
    parts = state if isinstance(state, tuple) else (state,)
    return {name: value for part in parts if part for name, value in part.items()}


def _plain(value: Any, depth: int) -> Any:
    """Convert a value for JSON; other objects become their names, which do not differ between runs."""
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
