"""``python -m secateur.agent`` is the command ``secateur``."""

import sys

from .cli import main

sys.exit(main())
