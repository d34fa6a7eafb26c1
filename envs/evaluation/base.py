"""The interface of evaluators, and what they compare candidates with.

Shapes: B candidates, N filters of a layer.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from ...rewards import Outcome
from ..surgery.plan import Mask
from ..tasks.measuring import Measurement

Candidate = Sequence[Mask]
"""One keep mask (N,) per layer."""


@dataclass(frozen=True, kw_only=True)
class Reference(Measurement):
    """The measurement of the dense network, with which candidates are compared.

    Args:
        constant_prediction_loss: Mean loss of a constant prediction, the mean of the network's outputs.
    """

    constant_prediction_loss: float


class Evaluator(Protocol):
    """Measure candidates of one network on a subset of ``val``."""

    evaluations: int
    """Candidates measured so far."""

    def __call__(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """Measure candidates.

        Args:
            candidates: B candidates.

        Returns:
            Their outcomes, in order; the outcome of a candidate does not depend on the others.

        Raises:
            FloatingPointError: If an accuracy or a loss is infinite or undefined.
        """

    @property
    def dense(self) -> Reference:
        """The measurement that candidates are compared with, on the current subset."""

    def next_val_subset(self) -> None:
        """Change to the next subset of ``val``, after the last one to the first again."""

    def at_val_subset(self, number: int) -> AbstractContextManager[None]:
        """Measure on a given subset inside the context, and on the current one again after it.

        Args:
            number: Number of the subset, from 0.
        """

    def seconds_per_candidate(self, masks: Candidate) -> float:
        """Time the measurement of a candidate, as part of a call with many candidates.

        Returns:
            Seconds.
        """
