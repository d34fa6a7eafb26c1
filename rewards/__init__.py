"""Rewards: functions of a candidate's outcome. Nothing in this package imports torch."""

from .description import describe_reward
from .outcome import Outcome, Size
from .reward import FunctionReward, Reward, RewardFunction, as_reward, is_met
from .target import TargetReward
from .target_range import TargetRange, sample_reward
from .try_and_learn import TryAndLearnReward

__all__ = [
    "FunctionReward",
    "Outcome",
    "Reward",
    "RewardFunction",
    "Size",
    "TargetRange",
    "TargetReward",
    "TryAndLearnReward",
    "as_reward",
    "describe_reward",
    "is_met",
    "sample_reward",
]
