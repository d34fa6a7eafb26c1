"""The schedule of gradual pruning: how much is removed at which step."""

from __future__ import annotations


def cubic_sparsity(step: int, begin: int, end: int, initial: float, final: float) -> float:
    """Return the sparsity at a step: fast at first, where weights are redundant, and slow in the end.

    Zhu and Gupta 2017, arXiv 1710.01878, eq. 1; ``end - begin`` is its n * dt.

    Args:
        step: Step of the training.
        begin: Step at which pruning begins; until then the sparsity is the initial one.
        end: Step at which the final sparsity is reached, at least ``begin``.
        initial: Sparsity before, in [0, 1].
        final: Sparsity after, in [0, 1].

    Raises:
        ValueError: If ``end`` is before ``begin``.
    """
    if end < begin:
        raise ValueError(f"pruning ends at step {end}; allowed is {begin}, where it begins, or later")
    if step >= end:
        return final
    if step <= begin:
        return initial
    left = 1 - (step - begin) / (end - begin)
    return final + (initial - final) * left**3
