"""A wanted size that is drawn anew for every episode."""

from collections.abc import Callable
from dataclasses import dataclass

from .outcome import Size, check_size
from .reward import Reward, RewardFunction, as_reward
from .target import TargetReward


@dataclass(frozen=True)
class TargetRange:
    """Want another size in every episode, so that one agent learns the whole trade-off.

    Args:
        low: Smallest target, size ratio, pruned / dense, in (0, 1].
        high: Largest target, in [low, 1].
        size: Which cost has to meet the target.

    Raises:
        ValueError: If the targets are out of range or in the wrong order, or nobody knows the size.
    """

    low: float = 0.2
    high: float = 0.9
    size: Size = "macs"

    def __post_init__(self) -> None:
        check_size(self.size)
        if not 0 < self.low <= self.high <= 1:
            raise ValueError(
                f"targets are drawn between {self.low} and {self.high}; give two numbers above 0 and at most "
                "1, the smaller first"
            )

    def draw(self, number: float) -> TargetReward:
        """Give the reward of an episode for a number in [0, 1)."""
        return TargetReward(self.low + number * (self.high - self.low), self.size)


def sample_reward(wish: RewardFunction | TargetRange, random: Callable[[], float]) -> Reward:
    """Give the reward of one episode: a fixed one without drawing a number.

    Args:
        wish: What the agent is to want; any function of an outcome, see :func:`.reward.as_reward`.
        random: Gives numbers in [0, 1).

    Raises:
        TypeError: If it is no reward.
        ValueError: If it wants what no reward can.
    """
    return wish.draw(random()) if isinstance(wish, TargetRange) else as_reward(wish)
