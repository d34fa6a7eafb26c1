"""Who decides: policies, their training, and the whole job from a dense network to a pruned one."""

from .config import PruningConfig
from .pruning import PruningResult, prune

__all__ = ["PruningConfig", "PruningResult", "prune"]
