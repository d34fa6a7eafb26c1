"""The verbs of the command line with their options, one file per verb.

The modules import only options at the top. All else is imported when a verb runs, as torch takes seconds to
import and ``--help``, ``runs`` and ``report`` do not need it.
"""

from .compare import Compare
from .evaluate import Evaluate
from .export import Export
from .frontier import Frontier
from .inspect import Inspect
from .prune import Prune
from .report import Report
from .resume import Resume
from .runs import Runs
from .train import Train

Verb = Prune | Inspect | Train | Resume | Evaluate | Export | Frontier | Compare | Report | Runs
