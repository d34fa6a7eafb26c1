"""What every reward offers, and how a plain function becomes one."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol

from .outcome import Outcome, Size, check_size

_ROUNDING = 1e-12

RewardFunction = Callable[[Outcome], float]
"""Any callable that judges an outcome, higher is better; :func:`as_reward` says what it wants beside that."""


class Reward(Protocol):
    """Judge an outcome: pure, cheap, higher is better."""

    @property
    def size(self) -> Size:
        """Which cost counts."""

    @property
    def target(self) -> float | None:
        """Wanted size ratio in (0, 1], None where no size is wanted."""

    @property
    def drop_bound(self) -> float | None:
        """Largest tolerated accuracy drop in percentage points, in (0, 100], None where none is set."""

    def __call__(self, outcome: Outcome) -> float:
        """Give the reward of a candidate."""


@dataclass(frozen=True)
class FunctionReward:
    """A function that judges, and what is wanted beside its judgement.

    Args:
        function: Gives the reward.
        target: See :class:`Reward`.
        drop_bound: Likewise.
        size: Likewise.
    """

    function: RewardFunction
    target: float | None = None
    drop_bound: float | None = None
    size: Size = "macs"

    def __call__(self, outcome: Outcome) -> float:
        """Ask the function."""
        return self.function(outcome)


def as_reward(judge: RewardFunction) -> Reward:
    """Give a callable what it lacks of a reward.

    Without a ``target`` it wants no size, without a ``drop_bound`` it bounds no accuracy drop: what it gives
    is then all that counts. Without a ``size`` the MACs are what the agent sees of the cost.

    Args:
        judge: A reward, or any function of an outcome; one that lacks nothing is given back as it is.

    Raises:
        TypeError: If it cannot be called, or is a class.
        ValueError: If its size is unknown, its target outside (0, 1] or its drop bound outside (0, 100].
    """
    if not callable(judge) or isinstance(judge, type):
        kind = f"the class {judge.__name__}" if isinstance(judge, type) else repr(judge)
        raise TypeError(f"the reward is {kind}; give a function of an Outcome, such as TargetReward(0.5)")
    size: Size = getattr(judge, "size", "macs")
    target, bound = getattr(judge, "target", None), getattr(judge, "drop_bound", None)
    check_size(size)
    _check_wish("target", target, 1)
    _check_wish("drop bound", bound, 100)
    if all(hasattr(judge, name) for name in ("size", "target", "drop_bound")):
        return judge  # type: ignore[return-value]
    return FunctionReward(judge, target, bound, size)


def _check_wish(name: str, value: Any, most: int) -> None:
    if value is not None and not (isinstance(value, Real) and 0 < float(value) <= most):
        raise ValueError(
            f"the {name} of the reward is {value!r}; allowed is above 0 and at most {most}, or None"
        )


def is_met(wish: RewardFunction, outcome: Outcome) -> bool:
    """Say whether a candidate is as small as is wanted, and as accurate."""
    reward = as_reward(wish)
    small = reward.target is None or outcome.ratio(reward.size) <= reward.target + _ROUNDING
    return small and (reward.drop_bound is None or outcome.accuracy_drop <= reward.drop_bound)
