"""Names of all methods."""

from typing import Literal, get_args

from ...envs.problem.criteria import CRITERIA

Scope = Literal["uniform", "global", "global-per-mac"]


SCOPES: tuple[Scope, ...] = get_args(Scope)


BASELINES = tuple(f"{criterion}-{scope}" for criterion in ("random", *CRITERIA) for scope in SCOPES)
"""Names such as ``l2-uniform`` and ``taylor-global-per-mac``."""

PPO = "ppo"
"""The method that learns."""

METHODS = (PPO, *BASELINES)
