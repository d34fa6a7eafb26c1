"""A target size that is sampled for every episode."""

from collections.abc import Callable
from dataclasses import dataclass

from .outcome import Size, check_size, is_number
from .reward import Reward, RewardFunction, as_reward
from .target import TargetReward


@dataclass(frozen=True)
class TargetRange:
    """Sample a new target size for every episode, so that one agent learns the whole trade-off.

    Args:
        low: Smallest target, size ratio, pruned / dense, in (0, 1].
        high: Largest target, in [low, 1].
        size: The cost that has to meet the target.

    Raises:
        ValueError: If the targets are out of range or in the wrong order, or the size is unknown.
    """

    low: float = 0.2
    high: float = 0.9
    size: Size = "macs"

    def __post_init__(self) -> None:
        check_size(self.size)
        if not (is_number(self.low) and is_number(self.high) and 0 < self.low <= self.high <= 1):
            raise ValueError(
                f"targets are drawn between {self.low!r} and {self.high!r}; give two numbers above 0 and at "
                "most 1, the smaller first"
            )

    def draw(self, number: float, smallest: float = 0.0) -> TargetReward:
        """Map a number in [0, 1) to the reward of an episode; equal ratios of targets are equally likely.

        Args:
            number: The number.
            smallest: Size ratio of the smallest network that can be reached; no target is below it, and none
                above 1, as a latency may be.
        """
        smallest = min(smallest, 1.0)
        low, high = max(self.low, smallest), max(self.high, smallest)
        return TargetReward(low * (high / low) ** number, self.size)


def sample_reward(
    reward: RewardFunction | TargetRange, random: Callable[[], float], smallest: float = 0.0
) -> Reward:
    """Return the reward of one episode. A fixed reward is returned without drawing a number.

    Args:
        reward: A reward, any function of an outcome (see :func:`.as_reward`), or a range of targets to sample
            from.
        random: Returns numbers in [0, 1).
        smallest: As for :meth:`TargetRange.draw`.

    Raises:
        TypeError: If ``reward`` cannot be called.
        ValueError: If its target, drop bound or size is out of range.
    """
    return reward.draw(random(), smallest) if isinstance(reward, TargetRange) else as_reward(reward)
