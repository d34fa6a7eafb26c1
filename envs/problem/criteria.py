"""Names of the importance criteria of the literature."""

CRITERIA = ("l1", "l2", "bn", "fpgm", "taylor")
