"""Measure candidates of one network, one after the other, on one core or GPU.

A bench can be sent to another process: its pickle holds what it was made from, and the other process builds
the network again, on its own device. Of the task only the loss and the metric go along, without the data.

Shapes: S images for statistics, V images for measuring, N filters of a layer.
"""

import functools
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..modules.precision import device_kind
from ..recovery.compensation import Compensation
from ..tasks.base import Task
from ..tasks.measuring import Measurement
from ..tracing import TracedNetwork
from .base import Candidate
from .candidate_network import CandidateNetwork
from .packing import pack_scoring, unpack
from .shared_prefix import SharedPrefix

Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""Calls a function for each of several values, as ``map`` does, perhaps several at a time."""


@dataclass(frozen=True, eq=False)
class ValSubset:
    """Images of ``val`` on which candidates are measured.

    Args:
        number: Number of the subset, from 0.
        inputs: Images (V, C, H, W), float32.
        targets: Their targets (V, ...).
    """

    number: int
    inputs: Tensor
    targets: Tensor


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
        self.candidates = CandidateNetwork(model, network, example, statistics_images, compensation)
        self.subset: ValSubset | None = None
        self.pieces: list[Tensor] = []
        self.targets: tuple[Tensor, ...] = ()
        self._shared: tuple[int, SharedPrefix | None] = (-1, None)

    def __reduce__(self) -> Any:
        """Pickle what the bench was made from, with the outputs of the network to try the task's loss on."""
        outputs = self.candidates.dense_answer(self.pieces[0])
        images = torch.cat([self._example[:0], *self.candidates.statistics_images])
        scoring = pack_scoring(self._task, outputs, self.targets[0])
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
        self.pieces = self.candidates.pieces(subset.inputs)
        self.targets = subset.targets.split(len(self.pieces[0]))
        if self.subset is None:
            self.candidates.record(self.pieces)
        self.subset = subset

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
        self, masks: Candidate, shared: SharedPrefix | None = None, spread: Spread = map
    ) -> Measurement:
        """Measure a candidate on the current subset.

        Args:
            masks: One keep mask (N,) per layer.
            shared: The prefix shared with other candidates, or None.
            spread: Runs the pieces of images; other functions than ``map`` may run several at a time, if
                nothing is shared.
        """
        answer = self.candidates.answering(masks, shared)
        if not self.candidates.answers_at_once:
            spread = map
        loss, statistics = 0.0, None
        score = functools.partial(self._score, answer)
        for found, mean_loss, images in spread(score, zip(self.pieces, self.targets, strict=True)):
            # The statistics are summed per piece: those of segmentation are large.
            statistics = found if statistics is None else statistics + found
            loss += mean_loss * images
        assert statistics is not None
        images = sum(map(len, self.targets))
        return Measurement(self._task.metric(statistics), loss / images, images)

    @torch.inference_mode()
    def _score(
        self, answer: Callable[[Tensor], Tensor], piece: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, float, int]:
        inputs, targets = piece
        outputs = answer(inputs)
        return (
            self._task.statistics(outputs, targets),
            float(self._task.loss(outputs, targets)),
            len(targets),
        )

    @torch.inference_mode()
    def constant_prediction(self) -> tuple[Tensor, float]:
        """Return the mean output (...) of the last measured candidate, and the mean loss of predicting it."""
        images = sum(map(len, self.targets))
        answers = [self.candidates.dense_answer(piece).sum(0) for piece in self.pieces]
        answer = torch.stack(answers).sum(0) / images
        losses = [
            float(self._task.loss(answer.expand(len(targets), *answer.shape), targets)) * len(targets)
            for targets in self.targets
        ]
        return answer, sum(losses) / images


def _rebuild(
    model: nn.Module,
    network: TracedNetwork,
    example: Tensor,
    images: Tensor,
    compensation: Compensation,
    scoring: bytes,
) -> Bench:
    return Bench(model, network, example, images, compensation, unpack(scoring))
