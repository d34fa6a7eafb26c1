"""``python -m secateur`` is the command ``secateur``."""

import sys

from .agent.cli import main

sys.exit(main())
