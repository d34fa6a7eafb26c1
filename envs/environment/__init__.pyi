from .single import FilterPruningEnv as FilterPruningEnv
from .vectorized import LockstepVecEnv as LockstepVecEnv
