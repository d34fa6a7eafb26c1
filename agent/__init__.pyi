from .procedures.config import PruningConfig as PruningConfig
from .procedures.prune import PruningResult as PruningResult
from .procedures.prune import prune as prune
