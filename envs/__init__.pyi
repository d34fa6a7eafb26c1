from .environment import FilterPruningEnv as FilterPruningEnv
from .environment import LockstepVecEnv as LockstepVecEnv
from .problem import PruningProblem as PruningProblem
