"""Who decides: policies, their training, and the whole job from a dense network to a pruned one."""

from .procedures.config import PruningConfig
from .procedures.prune import PruningResult, prune

__all__ = ["PruningConfig", "PruningResult", "prune"]
