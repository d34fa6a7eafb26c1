"""The world: a CNN, its data, and what happens when filters go.

Importing this package registers ``secateur/FilterPruning-v0`` with Gymnasium.
"""

import gymnasium

from .environment.single import FilterPruningEnv
from .environment.vectorized import LockstepVecEnv
from .problem.problem import PruningProblem

__all__ = ["FilterPruningEnv", "LockstepVecEnv", "PruningProblem"]

gymnasium.register(
    "secateur/FilterPruning-v0", entry_point="secateur.envs.environment.single:FilterPruningEnv"
)
