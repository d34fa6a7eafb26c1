"""What each verb of the command line takes and does, a file each.

Their modules import options alone; what does the work is imported where a verb runs, as torch takes seconds:
``--help``, ``runs`` and ``report`` do without it.
"""

from .evaluate import Evaluate
from .export import Export
from .frontier import Frontier
from .inspect import Inspect
from .prune import Prune
from .report import Report
from .resume import Resume
from .runs import Runs
from .train import Train

Verb = Inspect | Prune | Train | Resume | Evaluate | Export | Frontier | Report | Runs
