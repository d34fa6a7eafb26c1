"""The world: a CNN, its data, and what happens when filters go.

Importing this package registers ``secateur/FilterPruning-v0`` with Gymnasium.
"""

import gymnasium

from .filter_pruning import FilterPruningEnv
from .problem import PruningProblem
from .vectorized import LockstepVecEnv

__all__ = ["FilterPruningEnv", "LockstepVecEnv", "PruningProblem"]

gymnasium.register("secateur/FilterPruning-v0", entry_point="secateur.envs.filter_pruning:FilterPruningEnv")
