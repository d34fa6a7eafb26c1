"""The systems of pruning, each behind the same interface."""
