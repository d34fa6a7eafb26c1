"""Evaluators that measure alike, whatever is left of the network."""

from dataclasses import dataclass, replace
from typing import Self

from torch import nn

from ..recovery.compensation import Compensation
from ..tasks.base import Task
from ..tracing import TracedNetwork
from .evaluator import CandidateEvaluator
from .journal import Journal

_MOST_STATISTICS_IMAGES = 512


def statistics_images_for(images: int) -> int:
    """Give the number of training images for batch-norm statistics that suits a number of validation images.

    Args:
        images: Validation images a candidate is measured on, at least 1.
    """
    return min(_MOST_STATISTICS_IMAGES, -(-images // 2))


@dataclass(frozen=True)
class EvaluatorFactory:
    """Make evaluators for a network and for what cuts leave of it.

    Args:
        task: Data and metric.
        images: Validation images a candidate is measured on, at least 1.
        statistics_images: Training images for batch-norm statistics; None takes what suits ``images``.
        seed: Chooses and augments the images for statistics.
        journal: Knows candidates that were measured before; None measures all.
        dense: Measures what candidates are compared with; None compares with the network itself.
    """

    task: Task
    images: int
    statistics_images: int | None = None
    seed: int = 0
    journal: Journal | None = None
    dense: CandidateEvaluator | None = None

    def evaluator(
        self, model: nn.Module, network: TracedNetwork, compensation: Compensation, *, scope: str, name: str
    ) -> CandidateEvaluator:
        """Make the evaluator of one network.

        Args:
            model: The network; it is copied.
            network: Its trace.
            compensation: Gives what removed channels contributed to the kept ones.
            scope: Tells this evaluator from others with the same journal.
            name: Of the network, for messages.

        Raises:
            FloatingPointError: If the network's accuracy or loss is infinite or undefined.
        """
        statistics = self.statistics_images
        return CandidateEvaluator(
            model,
            network,
            self.task,
            images=self.images,
            statistics_images=statistics_images_for(self.images) if statistics is None else statistics,
            compensation=compensation,
            seed=self.seed,
            dense=self.dense,
            journal=self.journal,
            scope=scope,
            name=name,
        )

    def against(self, dense: CandidateEvaluator) -> Self:
        """Give a factory whose evaluators compare candidates with another network, measured alike."""
        return replace(self, dense=dense)
