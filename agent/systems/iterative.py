"""Train, prune, retrain, repeat: Han et al. 2015, arXiv 1506.02626."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...envs.sparsity import magnitude_masks, set_masks
from ...envs.sparsity.criteria import Scope
from .base import Job, Kind, Result
from .training import share_passes, steps_of_stage, train_stage
from .weights import masked_copy, share_left, sparse_result


@dataclass(frozen=True)
class Iterative:
    """Remove the smallest weights in rounds, and train after each.

    Each round keeps the same factor of what the one before left, and has the same part of the passes.

    Args:
        rounds: Number of rounds, at least 1; fewer where the passes have fewer steps.
        scope: On which scale magnitudes are compared.
    """

    rounds: int = 4
    scope: Scope = "global"
    kind: ClassVar[Kind] = "weights"

    def __call__(self, job: Job) -> Result:
        """Prune and train in turn.

        Raises:
            ValueError: If the target is not allowed, or the network has no weights to prune.
        """
        model = masked_copy(job)
        first = share_left(model)
        steps = steps_of_stage(job, job.epochs)
        rounds = min(self.rounds, steps) if steps else self.rounds  # no round is shorter than a step
        shares = [first * min(1.0, job.target / first) ** ((number + 1) / rounds) for number in range(rounds)]
        shares[-1] = job.target
        passes = share_passes(job, [1 / rounds] * rounds)
        for number, (share, epochs) in enumerate(zip(shares, passes, strict=True), start=1):
            set_masks(model, magnitude_masks(model, share, self.scope))
            train_stage(job, model, epochs, f"round-{number}")
        return sparse_result(job, model, job.epochs, rounds=rounds, shares=shares)
