"""The course of the learning rate: a linear warm-up, then a cosine to zero.

One-cycle (Smith and Topin 2018, arXiv 1708.07120) and learning-rate rewinding (Renda et al. 2020, arXiv
2003.02389) differ in the largest rate and in the length of the warm-up; see :class:`.config.Recipe`.
"""

import math

_INITIAL_RATE = 1 / 25
"""Initial / largest learning rate, of Smith and Topin."""


def learning_rate_factor(step: int, total: int, warmup: float) -> float:
    """Return the learning rate of a step as a share of the largest one.

    torch's OneCycleLR with linear warm-up is the same but divides by zero for some short trainings.

    Args:
        step: Number of the step, from 0.
        total: Steps of the whole training.
        warmup: Share of the steps in which the rate rises, in [0, 1); at least one step unless it is 0.
    """
    rising = max(1, round(warmup * total)) if warmup else 0
    if step < rising:
        return _INITIAL_RATE + (1 - _INITIAL_RATE) * step / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))
