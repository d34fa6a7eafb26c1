"""Make evaluators with the same settings for a network and its cuts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from torch import nn

from ..recovery.compensation import Compensation
from ..tasks.base import SplitName, Task
from ..tracing import TracedNetwork
from .engine import Engine
from .evaluator import CandidateEvaluator
from .journal import Journal


@dataclass(frozen=True)
class EvaluatorFactory:
    """Make evaluators for a network and for cut versions of it.

    Args:
        task: Data, loss and metric.
        images: Number of images for measuring a candidate, at least 1.
        statistics_images: Training images for batch-norm statistics, as for :class:`CandidateEvaluator`.
        seed: Seed for the choice and augmentation of the images for statistics.
        journal: Outcomes of candidates that were measured before; None measures all.
        dense: Evaluator of the network to compare with; None compares with the evaluator's own network.
        engine: Where candidates are measured; None measures them in this process.
        splits: Where the images for measuring are from, as many from each.
    """

    task: Task
    images: int
    statistics_images: int | None = None
    seed: int = 0
    journal: Journal | None = None
    dense: CandidateEvaluator | None = None
    engine: Engine | None = None
    splits: Sequence[SplitName] = ("val",)

    def evaluator(
        self, model: nn.Module, network: TracedNetwork, compensation: Compensation, *, scope: str, name: str
    ) -> CandidateEvaluator:
        """Make the evaluator of one network.

        Args:
            model: The network; it is copied.
            network: Its trace.
            compensation: Compensation for removed channels.
            scope: Name that distinguishes this evaluator from others with the same journal.
            name: Name of the network, for messages.

        Raises:
            FloatingPointError: If the network's accuracy or loss is infinite or undefined.
        """
        return CandidateEvaluator(
            model,
            network,
            self.task,
            images=self.images,
            splits=self.splits,
            statistics_images=self.statistics_images,
            compensation=compensation,
            seed=self.seed,
            dense=self.dense,
            engine=self.engine,
            journal=self.journal,
            scope=scope,
            name=name,
        )

    def against(self, dense: CandidateEvaluator) -> Self:
        """Return a factory whose evaluators compare candidates with the network of another evaluator."""
        return replace(self, dense=dense)
