"""What each verb of the command line takes and does, a file each."""

from .evaluate import Evaluate
from .export import Export
from .frontier import Frontier
from .inspect import Inspect
from .prune import Prune
from .resume import Resume
from .train import Train

__all__ = ["Evaluate", "Export", "Frontier", "Inspect", "Prune", "Resume", "Train"]
