"""Measure many candidates fast.

Images stay in memory, and candidates run through a network made for speed (:mod:`.candidate_network`). The
prefix that the candidates of a call share is computed once (:mod:`.shared_prefix`). An engine decides where
they are measured (:mod:`.engine`).

Shapes: B candidates, L layers, N filters of a layer, S images for statistics, V images for validation.
"""

import contextlib
import functools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...rewards import Outcome
from ..cost.counts import size_ratio
from ..modules.nonfinite import first_nonfinite
from ..modules.ranks import broadcast
from ..recovery.compensation import Compensation
from ..tasks.base import SplitName, Task
from ..tasks.measuring import check_measured
from ..tracing import TracedNetwork
from .base import Candidate, Reference
from .bench import Bench, ValSubset
from .engine import Engine, ThisProcess
from .journal import CachedMeasurement, Journal
from .workload import Workload


class CandidateEvaluator:
    """Measure candidates by masking and cutting one resident copy of the dense network.

    A candidate's outcome depends only on its masks and the current images, not on other candidates.

    Args:
        model: The dense network; it is copied.
        network: Its trace.
        task: Data, loss and metric.
        images: V, at most, taken evenly from ``val``; fewer if they are large. :meth:`next_val_subset`
            changes to others.
        splits: Where the V images are from, as many from each.
        statistics_images: S, augmented images of ``train`` for batch-norm statistics; 0 keeps the dense
            statistics. None uses half as many as ``images`` up to 128, or a quarter if that is more, at most
            512.
        compensation: Lets kept channels make up for removed ones; None does not compensate.
        seed: Seed for the choice and augmentation of the images for statistics.
        dense: Evaluator of the network to compare with, with as many images; None compares with ``model``.
        engine: Where candidates are measured; None measures them in this process.
        journal: Where outcomes are recorded and looked up; None measures all.
        scope: Name that distinguishes this evaluator from others with the same journal.
        name: Name of the network, for messages.

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
        splits: Sequence[SplitName] = ("val",),
        statistics_images: int | None = None,
        compensation: Compensation | None = None,
        seed: int = 0,
        dense: "CandidateEvaluator | None" = None,
        engine: Engine | None = None,
        journal: Journal | None = None,
        scope: str = "",
        name: str = "the network",
    ) -> None:
        self.name = name
        self.network = network
        self.task = task
        self._engine = engine or ThisProcess()
        self._journal = journal
        compensation = compensation or Compensation(model, network, task, images=0)
        self._model = model
        self._made = functools.partial(
            CandidateEvaluator,
            images=images,
            splits=splits,
            statistics_images=statistics_images,
            compensation=compensation,
            seed=seed,
            dense=dense,
            scope=scope,
            name=name,
        )
        example, _ = task.batch("train", torch.arange(min(2, task.size("train"))))
        workload = Workload.of(model, task, example, images, splits=splits, statistics=statistics_images)
        augmented = example[:0]
        if workload.statistics:
            augmented = _statistics_images(task, workload.statistics, seed)
        self.bench = Bench(model, network, example, augmented, compensation, task)
        self._scope = f"{scope}, {self.bench.kind}"
        self.evaluations = 0
        self._splits = splits
        self._images = workload.from_each
        self._dense = dense
        self._references: dict[int, Reference] = {}
        self._part = -1
        self._look_at(0)

    def __reduce__(self) -> Any:
        """Pickle what the evaluator was made from; another process measures by itself, without a journal."""
        return self._made, (self._model, self.network, self.task)

    @property
    def dense(self) -> Reference:
        """The measurement that candidates are compared with, on the current images."""
        return self._references[self._part]

    @contextlib.contextmanager
    def at_val_subset(self, number: int) -> Iterator[None]:
        """Measure on a given subset of ``val`` inside the context, and on the current one again after it.

        Args:
            number: Number of the subset, from 0.
        """
        before = self._part
        try:
            self._look_at(number)
            yield
        finally:
            self._look_at(before)

    def next_val_subset(self) -> None:
        """Change to the next subset of ``val``, after the last one to the first again.

        A search that always measures on the same images overfits to them.
        """
        parts = min(map(self.task.size, self._splits)) // self._images
        if parts > 1:
            self._look_at((self._part + 1) % parts)

    def _look_at(self, part: int) -> None:
        """Load one of the disjoint parts of the splits, spread evenly, as images may be sorted by class."""
        if part == self._part and part in self._references:
            return
        even, piece = torch.arange(self._images), self.bench.candidates.piece_size
        batches = []
        for split in self._splits:
            chosen = even * self.task.size(split) // self._images + part
            read = (self.task.batch(split, few) for few in chosen.split(piece))
            batches += [(self.bench.candidates.converted(inputs), targets) for inputs, targets in read]
        self.bench.look_at(ValSubset(part, batches))
        self._part = part
        if part not in self._references:
            self._references[part] = broadcast(self._reference())

    def _reference_on(self, part: int) -> Reference:
        """Give what candidates are compared with on a part of ``val``, whichever is at hand."""
        if part not in self._references:
            with self.at_val_subset(part):
                pass
        return self._references[part]

    def __call__(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """Measure candidates.

        Args:
            candidates: B candidates, each with one keep mask (N,) per layer.

        Returns:
            Their outcomes, compared with the dense network measured in the same way.

        Raises:
            FloatingPointError: If an accuracy or a loss is infinite or undefined.
        """
        network, candidates = self.network, broadcast(candidates)
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
        """Measure the dense network, and the loss of the best constant prediction."""
        if self._dense is not None:
            return self._dense._reference_on(self._part)
        whole = [np.ones(layer.filters, np.bool_) for layer in self.network.layers]
        (dense,) = ThisProcess().measured(self.bench, [whole], ())
        constant_loss = self.bench.constant_prediction_loss()
        if math.isnan(constant_loss):  # the ReLU of oneDNN hides it from the measurement
            dense = replace(dense, loss=math.nan)
        if not math.isfinite(dense.accuracy + dense.loss):
            where = first_nonfinite(self.bench.candidates.model, self.bench.pieces[0])
            check_measured(dense, f"{self.name}, before anything is removed,", f", {where}")
        return Reference(dense.accuracy, dense.loss, dense.images, constant_prediction_loss=constant_loss)

    def _find(self, candidates: Sequence[Candidate]) -> list[CachedMeasurement]:
        """Look candidates up in the journal; measure the others and record each one in it."""
        known, scope = self._journal, f"{self._scope}, part {self._part} of {' and '.join(self._splits)}"
        found = broadcast([known.recall(scope, masks) if known else None for masks in candidates])
        wanted = [k for k, one in enumerate(found) if one is None]
        results = self._engine.measured(
            self.bench, [candidates[k] for k in wanted], self._differing(candidates)
        )
        with contextlib.closing(results):
            for k, measured in zip(wanted, results, strict=True):
                check_measured(measured, f"candidate {self.evaluations + k + 1} of {self.name}")
                found[k] = one = CachedMeasurement(measured.accuracy, measured.loss)
                if known:
                    known.mark_kind(self.bench.kind)
                    known.append(scope, candidates[k], one)
        return [one for one in found if one is not None]

    def _differing(self, candidates: Sequence[Candidate]) -> frozenset[str]:
        """Name the tensors in which candidates differ; none if they share nothing or everything."""
        differing = [
            layer
            for layer, *masks in zip(self.network.layers, *candidates, strict=True)
            if any((mask != masks[0]).any() for mask in masks)
        ]
        if self.network.layers[0] in differing:
            return frozenset()
        return frozenset(where.parameter for layer in differing for where in layer.slices)

    def seconds_per_candidate(self, masks: Candidate) -> float:
        """Time the measurement of a candidate, as part of a call with many candidates.

        Args:
            masks: One keep mask (N,) per layer.

        Returns:
            Seconds, the smaller of two measurements.
        """
        times, number = [], self._engine.at_once(self.bench)
        for _ in range(2):
            began = time.perf_counter()
            list(self._engine.measured(self.bench, [masks] * number, ()))
            times.append((time.perf_counter() - began) / number)
        return broadcast(min(times))


def _statistics_images(task: Task, images: int, seed: int) -> Tensor:
    """Return augmented images of ``train``, chosen at random."""
    generator = torch.Generator().manual_seed(seed)
    picked = torch.randperm(task.size("train"), generator=generator)[:images]
    augmented, _ = task.batch("train", picked, augment=True, generator=generator)
    return augmented
