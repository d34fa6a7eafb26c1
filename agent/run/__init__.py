"""The folder of a run, its progress, and its end."""
