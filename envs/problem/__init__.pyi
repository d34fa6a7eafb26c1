from .criteria import CRITERIA as CRITERIA
from .importance import importance as importance
from .importance import weight_importance as weight_importance
from .problem import PruningProblem as PruningProblem
