"""Measure candidates of one network, one after the other, on one core or GPU.

A bench can be sent to another process: its pickle holds what it was made from, and the other process builds
the network again, on its own device. Of the task only the loss and the metric go along, without the data.

Shapes: S images for statistics, V images for measuring, N filters of a layer.
"""

import functools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..modules.inputs import run_on_copy
from ..modules.precision import device_kind
from ..recovery.compensation import Compensation
from ..tasks.base import Task
from ..tasks.measuring import Measurement
from ..tasks.network_loss import measured_loss
from ..tasks.optional_members import has_loss
from ..tracing import TracedNetwork
from .base import Candidate
from .candidate_network import CandidateNetwork
from .packing import pack, pack_scoring, unpack
from .shared_prefix import SharedPrefix

Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""Calls a function for each of several values, as ``map`` does, perhaps several at a time."""

_Score = tuple[Tensor, float, int]
"""The statistics, the mean loss and the number of images of a piece."""


def _in_turn(function: Callable[[Any], Any], values: Iterable[Any]) -> Iterable[Any]:
    """Call a function for each value; one that raises StopIteration fails, which ends ``map`` silently."""
    return (function(value) for value in values)


@dataclass(frozen=True, eq=False)
class ValSubset:
    """Images of ``val`` on which candidates are measured.

    Args:
        number: Number of the subset, from 0.
        batches: Images (P, C, H, W) as the candidates take them, and their targets, of any kind; V in all.
    """

    number: int
    batches: Sequence[tuple[Tensor, Any]]


class Bench:
    """Measure candidates of one network.

    Args:
        model: The dense network; it is copied.
        network: Its trace.
        example: Two images.
        statistics_images: S augmented images of ``train`` for batch-norm statistics; without any, the dense
            statistics stay.
        compensation: Lets kept channels make up for removed ones.
        task: Its loss and metric.
    """

    def __init__(
        self,
        model: nn.Module,
        network: TracedNetwork,
        example: Tensor,
        statistics_images: Tensor,
        compensation: Compensation,
        task: Task,
    ) -> None:
        self._dense, self._network, self._example = model, network, example
        self._compensation, self._task = compensation, task
        self._gives_outputs = has_loss(task)
        self.candidates = CandidateNetwork(
            model, network, example, statistics_images, compensation, gives_outputs=self._gives_outputs
        )
        self.subset: ValSubset | None = None
        self.pieces: list[Tensor] = []
        self.targets: list[Any] = []
        self._shared: tuple[int, SharedPrefix | None] = (-1, None)

    def __reduce__(self) -> Any:
        """Pickle what the bench was made from, with the outputs of the network to try the task's loss on."""
        images = torch.cat([self._example[:0], *self.candidates.statistics_images])
        if self._gives_outputs:
            outputs = [self.candidates.dense_answer(piece).clone() for piece in self.pieces]
            scoring = pack_scoring(self._task, list(zip(outputs, self.targets, strict=True)))
        else:
            scoring = pack(self._task)
        made_from = (self._dense, self._network, self._example, images, self._compensation, scoring)
        return _rebuild, made_from

    @property
    def kind(self) -> str:
        """The data type and the kind of processor; outcomes are equal bit for bit on the same kind only."""
        return device_kind(self._example.device)

    @property
    def device(self) -> torch.device:
        """The device that measures."""
        return self._example.device

    def look_at(self, subset: ValSubset) -> None:
        """Measure on a subset of ``val`` from now on."""
        if subset is self.subset:
            return
        self.pieces = [self.candidates.converted(inputs) for inputs, _ in subset.batches]
        self.targets = [targets for _, targets in subset.batches]
        if self.subset is None:
            self.candidates.record(self.pieces)
        self.subset = subset

    @property
    def is_sequential(self) -> bool:
        """Whether candidates cannot run in threads: a network's own losses draw from a common generator."""
        return not self._gives_outputs

    def prefix(self, differing: Collection[str]) -> SharedPrefix | None:
        """Return what candidates that differ in some tensors only can share; None if nothing.

        Args:
            differing: Names of the parameters and buffers in which they differ; empty if in all.
        """
        return SharedPrefix(differing) if differing and self.candidates.shares else None

    def measure_in_call(self, call: int, differing: Collection[str], masks: Candidate) -> Measurement:
        """Measure one of the candidates of a call; what they share is computed for the first one.

        Args:
            call: Number of the call.
            differing: As for :meth:`prefix`, for all candidates of the call.
            masks: One keep mask (N,) per layer.
        """
        if call != self._shared[0]:
            self._shared = call, self.prefix(differing)
        return self.measure(masks, self._shared[1])

    @torch.inference_mode()
    def measure(
        self, masks: Candidate, shared: SharedPrefix | None = None, spread: Spread = _in_turn
    ) -> Measurement:
        """Measure a candidate on the current subset.

        Args:
            masks: One keep mask (N,) per layer.
            shared: The prefix shared with other candidates, or None.
            spread: Runs the pieces of images, several at a time if nothing is shared; by default in turn.
        """
        score = self._scorer(masks, shared)
        if not self.candidates.answers_at_once:
            spread = _in_turn
        loss, statistics = 0.0, None
        for found, mean_loss, images in spread(score, zip(self.pieces, self.targets, strict=True)):
            # The statistics are summed per piece: those of segmentation are large.
            statistics = found if statistics is None else statistics + found
            loss += mean_loss * images
        assert statistics is not None
        images = sum(map(len, self.pieces))
        return Measurement(self._task.metric(statistics), loss / images, images)

    def _scorer(self, masks: Candidate, shared: SharedPrefix | None) -> Callable[[Any], _Score]:
        """Return what measures a candidate on a piece and its targets."""
        if self._gives_outputs:
            return functools.partial(self._score, self.candidates.answering(masks, shared))
        return functools.partial(self._score_network, self.candidates.re_estimated(masks))

    @torch.inference_mode()
    def _score(self, answer: Callable[[Tensor], Tensor], piece: tuple[Tensor, Any]) -> _Score:
        inputs, targets = piece
        outputs = answer(inputs)
        return self._task.statistics(outputs, targets), float(self._task.loss(outputs, targets)), len(inputs)

    @torch.inference_mode()
    def _score_network(self, model: nn.Module, piece: tuple[Tensor, Any]) -> _Score:
        inputs, targets = piece
        statistics = self._task.statistics(run_on_copy(model, inputs), targets)
        return statistics, float(measured_loss(self._task, model, inputs, targets)), len(inputs)

    @torch.inference_mode()
    def constant_prediction_loss(self) -> float:
        """Compute the mean loss of a constant prediction; undefined if an output of the network is.

        That is the mean output of the last measured candidate. A network that computes its losses itself sees
        the mean image instead.
        """
        images, pairs = sum(map(len, self.pieces)), list(zip(self.pieces, self.targets, strict=True))

        def mean(sums: Sequence[Tensor]) -> Tensor:
            return torch.stack(list(sums)).sum(0) / images

        if self._gives_outputs:
            answer = mean([self.candidates.dense_answer(piece).sum(0) for piece in self.pieces])
            if answer.isnan().any():
                return math.nan
            losses = [self._task.loss(answer.expand(len(x), *answer.shape), wanted) for x, wanted in pairs]
        else:
            image, model = mean([piece.sum(0) for piece in self.pieces]), self.candidates.model
            losses = [measured_loss(self._task, model, image.expand_as(x), wanted) for x, wanted in pairs]
        return sum(float(loss) * len(x) for loss, x in zip(losses, self.pieces, strict=True)) / images


def _rebuild(
    model: nn.Module,
    network: TracedNetwork,
    example: Tensor,
    images: Tensor,
    compensation: Compensation,
    scoring: bytes,
) -> Bench:
    return Bench(model, network, example, images, compensation, unpack(scoring))
