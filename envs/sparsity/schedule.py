"""The schedule of gradual pruning: how much is removed at which step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Updates:
    """The steps of a training at which masks change: each so many, and the last.

    Args:
        last: The last step, at least 0; 0 if there is none.
        interval: Steps between two updates, at least 1.
    """

    last: int
    interval: int

    @classmethod
    def spread(cls, last: int, number: int) -> Updates:
        """Spread about a number of updates over the steps up to the last one."""
        return cls(last, max(1, last // number))

    def __contains__(self, step: int) -> bool:
        """Return whether masks change after a step, from 1."""
        return step == self.last or (step < self.last and step % self.interval == 0)

    def __len__(self) -> int:
        """Return the number of updates."""
        return -(-self.last // self.interval)


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
