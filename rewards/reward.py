"""The interface of rewards, and an adapter for plain functions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from .outcome import Outcome, Size, check_size, is_number

_ROUNDING = 1e-9

RewardFunction = Callable[[Outcome], float]
"""A callable that scores an outcome, higher is better; :func:`as_reward` completes it."""


class Reward(Protocol):
    """Score an outcome, higher is better. A reward is pure and cheap to call."""

    @property
    def size(self) -> Size:
        """The cost that counts as the network's size."""

    @property
    def target(self) -> float | None:
        """Target size ratio, pruned / dense, in (0, 1]; None if the reward has no target."""

    @property
    def drop_bound(self) -> float | None:
        """Largest tolerated accuracy drop, percentage points; None if the reward has no bound."""

    def __call__(self, outcome: Outcome) -> float:
        """Return the reward of a candidate."""


@dataclass(frozen=True)
class FunctionReward:
    """A function as a reward.

    Args:
        function: Returns the reward of an outcome.
        target: Target size ratio; see :class:`Reward`.
        drop_bound: Largest tolerated accuracy drop; see :class:`Reward`.
        size: The cost that counts; see :class:`Reward`.
    """

    function: RewardFunction
    target: float | None = None
    drop_bound: float | None = None
    size: Size = "macs"

    def __call__(self, outcome: Outcome) -> float:
        """Return the reward of a candidate."""
        return self.function(outcome)


def as_reward(function: RewardFunction) -> Reward:
    """Complete a callable to a reward.

    A callable without ``target`` has no target size, one without ``drop_bound`` has no bound: only its value
    counts. Without ``size`` the agent observes the MACs as the cost.

    Args:
        function: A reward, or any function of an outcome. A complete reward is returned as it is.

    Raises:
        TypeError: If ``function`` cannot be called, or is a class.
        ValueError: If its size is unknown, its target outside (0, 1] or its drop bound outside (0, 100].
    """
    if not callable(function) or isinstance(function, type):
        kind = f"the class {function.__name__}" if isinstance(function, type) else repr(function)
        raise TypeError(f"the reward is {kind}; give a function of an Outcome, such as TargetReward(0.5)")
    size: Size = getattr(function, "size", "macs")
    target, bound = getattr(function, "target", None), getattr(function, "drop_bound", None)
    check_size(size)
    _check_range("target", target, 1)
    _check_range("drop bound", bound, 100)
    if all(hasattr(function, name) for name in ("size", "target", "drop_bound")):
        return function  # type: ignore[return-value]
    return FunctionReward(function, target, bound, size)


def _check_range(name: str, value: Any, most: int) -> None:
    if value is not None and not (is_number(value) and 0 < float(value) <= most):
        raise ValueError(
            f"the {name} of the reward is {value!r}; allowed is above 0 and at most {most}, or None"
        )


def is_met(reward: RewardFunction, outcome: Outcome) -> bool:
    """Return whether a candidate meets the target size and the drop bound of a reward."""
    reward = as_reward(reward)
    small = reward.target is None or outcome.ratio(reward.size) <= reward.target + _ROUNDING
    return small and (reward.drop_bound is None or outcome.accuracy_drop <= reward.drop_bound + _ROUNDING)
