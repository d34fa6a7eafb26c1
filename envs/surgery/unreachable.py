"""The refusal of a size that no cut of a network has."""


class TargetUnreachableError(ValueError):
    """Say that a network stays above the target however many of its filters go, or has none that may go."""
