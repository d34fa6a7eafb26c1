"""One network to prune on one task, with all that is computed once and used by every episode.

Shapes: L layers, N filters of a layer, F features of a filter, G features of a layer.
"""

import functools
import hashlib
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import nn

from ..cost.config import LatencyConfig
from ..cost.profiling import with_latency
from ..evaluation.evaluator import CandidateEvaluator
from ..evaluation.factory import EvaluatorFactory
from ..evaluation.journal import Journal
from ..recovery.compensation import Compensation
from ..recovery.config import COMPENSATION_IMAGES
from ..surgery.cutting import cut
from ..surgery.plan import PruningPlan
from ..surgery.verification import trace_exactly, verify_cut
from ..tasks.base import Task
from ..tracing import TracedNetwork
from .features import StaticFeatures, static_features
from .importance import Scores, importance


@dataclass(frozen=True)
class PruningProblem:
    """A dense network, its trace, its data, and what an agent can know of it before anything is removed.

    Args:
        name: For logs, such as ``resnet20``.
        model: The dense network, on the task's device.
        network: Its trace.
        task: Data and metric.
        compensation: Gives what removed channels contributed to the kept ones, before a cut.
        evaluator: Measures what a cut leaves of candidates, compensation included.
        scores: Importance of the filters by criterion.
        features: What an agent sees of filters and layers.
    """

    name: str
    model: nn.Module
    network: TracedNetwork
    task: Task
    compensation: Compensation
    evaluator: CandidateEvaluator
    scores: dict[str, Scores]
    features: StaticFeatures

    @classmethod
    def build(
        cls,
        name: str,
        model: nn.Module,
        task: Task,
        *,
        network: TracedNetwork | None = None,
        images: int = 512,
        statistics_images: int | None = None,
        compensation_images: int = COMPENSATION_IMAGES,
        latency: LatencyConfig | None = None,
        journal: Journal | None = None,
        seed: int = 0,
    ) -> Self:
        """Trace and score a network.

        Args:
            name: For logs.
            model: The dense network, on the task's device.
            task: Data and metric.
            network: A trace, if there is one already.
            images: Validation images a candidate is measured on.
            statistics_images: Training images its batch-norm statistics are taken from; None takes what
                :func:`.statistics_images_for` says.
            compensation_images: Training images that the compensation is fitted to; 0 does without.
            latency: Time the network in this way, for rewards that count the latency; None where the trace
                has one, or none is wanted.
            journal: Knows candidates that were measured before.
            seed: Chooses the images for statistics.

        Raises:
            ValueError: If nothing can be pruned.
        """
        network = network or trace_exactly(model, torch.zeros(2, *task.input_shape))
        check_prunable(network, name)
        if latency is not None:
            network = with_latency(model, network, task.input_shape, latency)
        compensation = Compensation(model, network, task, images=compensation_images, seed=seed)
        factory = EvaluatorFactory(task, images, statistics_images, seed, journal)
        evaluator = factory.evaluator(model, network, compensation, scope=f"search {name}", name=name)
        scores = importance(model, network, task)
        features = static_features(network, scores)
        return cls(name, model, network, task, compensation, evaluator, scores, features)

    def choice_problem(self, images: int, *, seed: int = 0, journal: Journal | None = None) -> Self:
        """Give the same problem, with an evaluator that looks at other images.

        Args:
            images: Validation images a candidate is measured on.
            seed: Chooses the images for batch-norm statistics.
            journal: Knows candidates that were measured before.
        """
        factory = EvaluatorFactory(self.task, images, seed=seed, journal=journal)
        evaluator = factory.evaluator(
            self.model, self.network, self.compensation, scope="choice", name=self.name
        )
        return replace(self, evaluator=evaluator)

    def cut(self, plan: PruningPlan) -> nn.Module:
        """Give what the dropped filters contributed to the kept ones, and remove them from a copy.

        Raises:
            InexactCutError: If the smaller network would not compute what the masked one does.
        """
        verify_cut(self.model, self.network, plan, torch.zeros(2, *self.task.input_shape))
        compensated = self.compensation.applied(self.model, plan.masks(self.network))
        return cut(compensated, self.network, plan)

    @functools.cached_property
    def fingerprint(self) -> str:
        """What tells this network, with these weights and these layers to decide about, from all others."""
        digest = hashlib.sha1(repr([(layer.name, layer.filters) for layer in self.network.layers]).encode())
        for name, tensor in self.model.state_dict().items():
            if isinstance(tensor, torch.Tensor):  # modules may keep other things among them
                digest.update(name.encode())
                digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def check_prunable(network: TracedNetwork, name: str) -> None:
    """Refuse a network of which no filter can go.

    Args:
        network: A trace.
        name: Of the network, for the message.

    Raises:
        ValueError: If there is no layer to decide about; the message says what keeps the filters.
    """
    if not network.layers:
        reasons = "; ".join(dict.fromkeys(str(p.cause) for p in network.pinned)) or "it has no convolutions"
        raise ValueError(f"no filter of {name} can be pruned: {reasons}")
