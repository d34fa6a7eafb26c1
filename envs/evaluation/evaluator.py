"""The accuracy of many candidate masks, fast.

Images are resident, and what they are run through is made for speed (:mod:`.candidates`). What a candidate
shares with the others of a call is computed once (:mod:`.prefix`), and each core has a candidate of its own.

Shapes: B candidates, L layers, N filters of a layer, S images for statistics, V images for validation.
"""

import contextlib
import math
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ...rewards import Outcome
from ..cost.counts import size_ratio
from ..modules.nonfinite import first_nonfinite
from ..recovery.compensation import Compensation
from ..surgery.cutting import Mask
from ..tasks.base import Task
from ..tasks.measuring import Measurement, check_measured
from ..tracing import TracedNetwork
from .candidate_network import CandidateNetwork
from .journal import CachedMeasurement, Journal
from .shared_prefix import SharedPrefix


@dataclass(frozen=True, kw_only=True)
class Reference(Measurement):
    """What candidates are compared with: the dense network.

    Args:
        constant_prediction_loss: Mean loss of one answer to all examples, the mean of the network's.
    """

    constant_prediction_loss: float


class CandidateEvaluator:
    """Measure candidates by masking and cutting one resident copy of the dense network.

    A candidate's result depends on its own mask and the images at hand, never on what was evaluated before or
    beside it.

    Args:
        model: The dense network; it is copied.
        network: Its trace.
        task: Data and metric.
        images: V, taken evenly from ``val``; fewer where it has fewer. :meth:`next_val_subset` takes others.
        statistics_images: S, augmented images of ``train`` for batch-norm statistics; 0 keeps the dense
            statistics.
        compensation: Gives what removed channels contributed to the kept ones; None lets them just go.
        seed: Chooses and augments the images for statistics.
        dense: Measures, on as many images, what candidates are compared with; None compares with ``model``.
        journal: Knows what was measured before, and gets what is measured now; None measures all.
        scope: Tells this evaluator from others with the same journal.
        name: Of the network, for messages.

    Raises:
        FloatingPointError: If the dense network's accuracy or loss is infinite or undefined.
    """

    def __init__(
        self,
        model: nn.Module,
        network: TracedNetwork,
        task: Task,
        *,
        images: int = 512,
        statistics_images: int = 256,
        compensation: Compensation | None = None,
        seed: int = 0,
        dense: "CandidateEvaluator | None" = None,
        journal: Journal | None = None,
        scope: str = "",
        name: str = "the network",
    ) -> None:
        self.name = name
        self.network = network
        self.task = task
        self._journal, self._scope = journal, scope
        self._candidates = CandidateNetwork(
            model,
            network,
            task,
            statistics_images=statistics_images,
            compensation=compensation,
            seed=seed,
        )
        self.evaluations = 0
        self._images = min(images, task.size("val"))
        self._dense = dense
        self._references: dict[int, Reference] = {}
        self._part = -1
        self._look_at(0)

    @property
    def dense(self) -> Reference:
        """What candidates are compared with, on the images at hand."""
        return self._references[self._part]

    @contextlib.contextmanager
    def at_val_subset(self, number: int) -> Iterator[None]:
        """Measure on other images of ``val`` for a while; afterwards on those at hand before.

        Args:
            number: Which of the disjoint parts of ``val``, from 0.
        """
        before = self._part
        try:
            self._look_at(number)
            yield
        finally:
            self._look_at(before)

    def next_val_subset(self) -> None:
        """Measure on other images of ``val`` from now on, and on the first again when all had their turn.

        Whoever searches on the same images all the time learns these images.
        """
        parts = self.task.size("val") // self._images
        if parts > 1:
            self._look_at((self._part + 1) % parts)

    def _look_at(self, part: int) -> None:
        """Make one of the disjoint parts of ``val`` resident, spread evenly, as classes may be sorted."""
        if part == self._part and part in self._references:
            return
        chosen = torch.arange(self._images) * self.task.size("val") // self._images + part
        inputs, targets = self.task.batch("val", chosen)
        self._part, self._val = part, self._candidates.pieces(inputs)
        self._targets = targets.split(len(self._val[0]))
        if not self._references:
            self._candidates.record(self._val)
        if part not in self._references:
            self._references[part] = self._reference()

    def _reference_on(self, part: int) -> Reference:
        """Give what candidates are compared with on a part of ``val``, whichever is at hand."""
        if part not in self._references:
            with self.at_val_subset(part):
                pass
        return self._references[part]

    def __call__(self, candidates: Sequence[Sequence[Mask]]) -> list[Outcome]:
        """Measure candidates.

        Args:
            candidates: B candidates, each with one keep mask (N,) a layer.

        Returns:
            Their outcomes, against the dense network measured in the same way.

        Raises:
            FloatingPointError: If an accuracy or a loss is infinite or undefined.
        """
        network = self.network
        outcomes = []
        for masks, found in zip(candidates, self._find(candidates), strict=True):
            kept = np.array([mask.sum() for mask in masks])
            outcomes.append(
                Outcome(
                    accuracy=found.accuracy,
                    dense_accuracy=self.dense.accuracy,
                    loss=found.loss,
                    dense_loss=self.dense.loss,
                    constant_prediction_loss=self.dense.constant_prediction_loss,
                    macs_ratio=float(size_ratio(network, kept, "macs")),
                    params_ratio=float(size_ratio(network, kept, "params")),
                    filters_ratio=float(size_ratio(network, kept, "filters")),
                    latency_ratio=float(size_ratio(network, kept, "latency")) if network.latency else None,
                )
            )
            self.evaluations += 1
        return outcomes

    def _reference(self) -> Reference:
        """Measure the dense network, and what it is worth to look at the images at all."""
        if self._dense is not None:
            return self._dense._reference_on(self._part)
        dense = self._measure([np.ones(layer.filters, np.bool_) for layer in self.network.layers])
        if not math.isfinite(dense.accuracy + dense.loss):
            where = first_nonfinite(self._candidates.model, self._val[0])
            check_measured(dense, f"{self.name}, before anything is removed,", f", {where}")
        with torch.inference_mode():
            answers = [self._candidates.dense_answer(piece).sum(0) for piece in self._val]
            answer = torch.stack(answers).sum(0) / dense.images
            losses = [
                float(self.task.loss(answer.expand(len(targets), *answer.shape), targets)) * len(targets)
                for targets in self._targets
            ]
        return Reference(
            dense.accuracy, dense.loss, dense.images, constant_prediction_loss=sum(losses) / dense.images
        )

    def _find(self, candidates: Sequence[Sequence[Mask]]) -> list[CachedMeasurement]:
        """Recall candidates from the journal, measure the others, and write these down one by one."""
        shared = self._shared_prefix(candidates) if self._candidates.shares else None
        known, scope = self._journal, f"{self._scope}, part {self._part} of val"
        found = [known.recall(scope, masks) if known else None for masks in candidates]
        wanted = [k for k, one in enumerate(found) if one is None]
        if shared and wanted:
            wanted = sorted({0, *wanted})  # what the others share is the first one's
        with contextlib.closing(self._measured(candidates, wanted, shared)) as results:
            for k, measured in zip(wanted, results, strict=True):
                if found[k] is None:
                    check_measured(measured, f"candidate {self.evaluations + k + 1} of {self.name}")
                    found[k] = one = CachedMeasurement(measured.accuracy, measured.loss)
                    if known:
                        known.append(scope, candidates[k], one)
        return [one for one in found if one is not None]

    def _measured(
        self, candidates: Sequence[Sequence[Mask]], wanted: list[int], shared: SharedPrefix | None
    ) -> Generator[Measurement, None, None]:
        """Measure some candidates, in their order.

        The first one leads where they share something; the others are measured one a core, which is faster
        than one on all cores. Which are wanted changes nothing in how each is measured.
        """
        leaders = wanted[:1] if shared else []
        others = wanted[len(leaders) :]
        for k in leaders:
            yield self._measure(candidates[k], shared)
        threads = torch.get_num_threads()
        if threads == 1 or len(candidates) - bool(shared) < 2 or self._val[0].device.type != "cpu":
            for k in others:
                yield self._measure(candidates[k], shared)
            return
        pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        try:
            yield from pool.map(lambda k: self._measure(candidates[k], shared), others)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)  # threads begun later take over what was set last

    def _shared_prefix(self, candidates: Sequence[Sequence[Mask]]) -> SharedPrefix | None:
        """Give what candidates share; None where nothing or everything is."""
        differing = [
            layer
            for layer, *masks in zip(self.network.layers, *candidates, strict=True)
            if any((mask != masks[0]).any() for mask in masks)
        ]
        if len(candidates) < 2 or not differing or self.network.layers[0] in differing:
            return None
        return SharedPrefix({where.parameter for layer in differing for where in layer.slices})

    @torch.inference_mode()
    def _measure(self, masks: Sequence[Mask], shared: SharedPrefix | None = None) -> Measurement:
        loss, statistics = 0.0, None
        answers = self._candidates.answers(masks, self._val, shared)
        for outputs, targets in zip(answers, self._targets, strict=True):
            found = self.task.statistics(outputs, targets)  # one piece's: those of segmentation are large
            statistics = found if statistics is None else statistics + found
            loss += float(self.task.loss(outputs, targets)) * len(targets)
        assert statistics is not None
        images = sum(map(len, self._targets))
        return Measurement(self.task.metric(statistics), loss / images, images)
