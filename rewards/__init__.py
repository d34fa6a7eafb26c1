"""Rewards: functions of a candidate's outcome. Nothing in this package imports torch."""

from .outcome import Outcome, Size
from .reward import Reward, is_met
from .target import TargetReward
from .target_range import TargetRange, sample_reward
from .try_and_learn import TryAndLearnReward

__all__ = [
    "Outcome",
    "Reward",
    "Size",
    "TargetRange",
    "TargetReward",
    "TryAndLearnReward",
    "is_met",
    "sample_reward",
]
