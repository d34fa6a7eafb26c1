"""What each verb of the command line takes and does, a file each."""

from .evaluate import Evaluate
from .export import Export
from .frontier import Frontier
from .inspect import Inspect
from .prune import Prune
from .report import Report
from .resume import Resume
from .runs import Runs
from .train import Train

__all__ = ["Evaluate", "Export", "Frontier", "Inspect", "Prune", "Report", "Resume", "Runs", "Train"]
