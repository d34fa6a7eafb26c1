"""A network to prune on a task, with everything that all episodes share.

Shapes: L layers, N filters of a layer, F features of a filter, G features of a layer.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import nn

from ..cost.config import LatencyConfig
from ..cost.profiling import with_latency
from ..evaluation.base import Evaluator
from ..evaluation.engine import Engine, ThisProcess
from ..evaluation.factory import EvaluatorFactory
from ..evaluation.journal import Journal
from ..modules.copying import replica
from ..modules.digest import weights_digest
from ..quantization.insertion import quantize_
from ..recovery.compensation import Compensation
from ..recovery.config import COMPENSATION_IMAGES
from ..surgery.cutting import cut
from ..surgery.plan import PruningPlan
from ..surgery.unreachable import TargetUnreachableError
from ..surgery.verification import trace_exactly, verify_cut
from ..tasks.base import SplitName, Task
from ..tracing import TracedNetwork
from ..tracing.pinned import sum_up
from .features import StaticFeatures, static_features
from .importance import Scores, importance
from .reconstruction import reconstructions


@dataclass(frozen=True)
class PruningProblem:
    """Hold a dense network, its trace, its data and its features.

    Args:
        name: Name of the network for logs, such as ``resnet20``.
        model: The dense network, on the task's device.
        network: Its trace.
        task: Data, loss and metric.
        compensation: Lets kept channels make up for removed ones before a cut.
        evaluator: Measures candidates, compensation included.
        scores: Importance scores by criterion, one array (N,) per layer.
        features: Static features of filters and layers.
        engine: Where the problem's evaluators measure.
        quantized: A copy of the dense network under fake quantisation, with which the choice measures
            candidates; None measures in float.
    """

    name: str
    model: nn.Module
    network: TracedNetwork
    task: Task
    compensation: Compensation
    evaluator: Evaluator
    scores: dict[str, Scores]
    features: StaticFeatures
    engine: Engine = field(default_factory=ThisProcess)
    quantized: nn.Module | None = None

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
        engine: Engine | None = None,
        journal: Journal | None = None,
        seed: int = 0,
        quantize: bool = False,
    ) -> Self:
        """Trace and score a network.

        Args:
            name: Name of the network for logs.
            model: The dense network, on the task's device.
            task: Data, loss and metric.
            network: An existing trace, or None.
            images: Validation images for measuring a candidate.
            statistics_images: Training images for re-estimating batch-norm statistics; None uses
                half as many as ``images`` up to 128, or a quarter if that is more, at most 512.
            compensation_images: Training images for fitting the compensation; 0 turns it off.
            latency: Settings for timing the network, for rewards that count the latency. None does not time.
            engine: Where candidates are measured; None measures them in this process.
            journal: Outcomes of candidates that were measured before.
            seed: Seed for the choice of images.
            quantize: Whether the choice measures candidates under fake quantisation; see
                :meth:`choice_problem`.

        Raises:
            ValueError: If no filter can be pruned, or no layer quantised.
        """
        network = network or trace_exactly(model, torch.zeros(2, *task.input_shape))
        check_prunable(network, name)
        if latency is not None:
            network = with_latency(model, network, task.input_shape, latency)
        compensation = Compensation(model, network, task, images=compensation_images, seed=seed)
        engine = engine or ThisProcess()
        factory = EvaluatorFactory(task, images, statistics_images, seed, journal, engine=engine)
        evaluator = factory.evaluator(model, network, compensation, scope=f"search {name}", name=name)
        scores = importance(model, network, task)
        features = static_features(network, scores, reconstructions(model, network, compensation))
        quantized = quantize_(replica(model), task, seed=seed) if quantize else None
        return cls(name, model, network, task, compensation, evaluator, scores, features, engine, quantized)

    def choice_problem(
        self,
        images: int,
        *,
        splits: Sequence[SplitName] = ("val",),
        seed: int = 0,
        journal: Journal | None = None,
    ) -> Self:
        """Return the same problem with an evaluator for choosing among finished plans.

        With a network under fake quantisation candidates are cut from that: their weights are rounded as
        those of the cut network, their activations between the ends of the dense network's ranges. The search
        does without: a pass takes up to three times as long, and hardly changes the order of candidates.

        Args:
            images: Images for measuring a candidate.
            splits: Where they are from, as many from each.
            seed: Seed for the choice of images for batch-norm statistics.
            journal: Outcomes of candidates that were measured before.
        """
        factory = EvaluatorFactory(
            self.task, images, seed=seed, journal=journal, engine=self.engine, splits=splits
        )
        model, scope = self.model, f"choice on {images} images"
        if self.quantized is not None:
            model, scope = self.quantized, f"{scope}, int8"
        evaluator = factory.evaluator(model, self.network, self.compensation, scope=scope, name=self.name)
        return replace(self, evaluator=evaluator)

    def cut(self, plan: PruningPlan) -> nn.Module:
        """Compensate and cut a copy of the network.

        Raises:
            InexactCutError: If the smaller network would not compute the same as the masked one.
        """
        verify_cut(self.model, self.network, plan, torch.zeros(2, *self.task.input_shape))
        compensated = self.compensation.compensated_copy(self.model, plan.masks(self.network))
        return cut(compensated, self.network, plan)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the weights and the prunable layers."""
        layers = [(layer.name, layer.filters) for layer in self.network.layers]
        return weights_digest(self.model, prefix=repr(layers))


def check_prunable(network: TracedNetwork, name: str) -> None:
    """Refuse a network without prunable filters.

    Args:
        network: A trace.
        name: Name of the network, for the message.

    Raises:
        TargetUnreachableError: If there is no prunable layer; the message lists why filters are pinned.
    """
    if not network.layers:
        reasons = "; ".join(str(p.cause) for p in sum_up(network.pinned)) or "it has no convolutions"
        if network.advice:
            raise TargetUnreachableError(f"no filter of {name} can be pruned: {reasons}; {network.advice}")
        raise TargetUnreachableError(
            f"no filter of {name} can be pruned: {reasons}; give a network with a layer before the last one "
            "whose filters may go, and see `secateur inspect`"
        )
