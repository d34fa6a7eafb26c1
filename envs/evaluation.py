"""The accuracy of many candidate masks, fast.

Images are resident, cut into pieces that fit the cache; convolutions run in bfloat16 and channels-last
where the processor has instructions for it, batch-norm in float32. A candidate is cut to the next widths
that kernels are made for, what it shares with the others of a call is computed once (:mod:`.prefix`), and
each core has a candidate of its own. A candidate's batch-norm statistics are taken anew from training images
augmented as in training, because accuracy without that says nothing of accuracy after recovery (Li et al.
2020, "EagleEye", arXiv 2007.02491).

Shapes: B candidates, L layers, N filters of a layer, S images for statistics, V images for validation.
"""

import contextlib
import copy
import math
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..rewards import Outcome
from .compensation import Compensation
from .cost import size_ratio
from .divergence import check_measured, first_undefined
from .journal import Found, Journal
from .outputs import main_output
from .precision import working_dtype
from .prefix import SharedPrefix
from .surgery import Mask, PruningPlan, cut
from .tasks.base import Measurement, Task, fastest_layout
from .tracing import TracedNetwork

_PIECE_PIXELS = {"cpu": 128 * 32 * 32, "cuda": 4096 * 32 * 32}
"""Pixels of the images in one forward pass: 128 CIFAR images stay in a core's cache (1.8 times faster than
512)."""

_LARGEST_PIECE = 1024

_FEW, _VECTOR = 8, 8 if torch.backends.cpu.get_cpu_capability() == "AVX2" else 16
"""Widths that oneDNN and batch-norm have kernels for: 8, and multiples of 16, with AVX2 alone of 8. Between
them they are slower than at the next of them, and each new shape costs a millisecond of set-up."""


@dataclass(frozen=True, kw_only=True)
class Reference(Measurement):
    """What candidates are compared with: the dense network.

    Args:
        blind_loss: Mean loss of one answer to all examples, the mean of the network's.
    """

    blind_loss: float


class CandidateEvaluator:
    """Measure candidates by masking and cutting one resident copy of the dense network.

    A candidate's result depends on its own mask and the images at hand, never on what was evaluated before or
    beside it.

    Args:
        model: The dense network; it is copied.
        network: Its trace.
        task: Data and metric.
        images: V, taken evenly from ``val``; fewer where it has fewer. :meth:`look_further` takes others.
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
        self._model = copy.deepcopy(model).eval()
        norms = _norms(self._model)
        for norm in norms:
            norm.momentum = None  # the plain average over the pieces
        generator = torch.Generator().manual_seed(seed)
        example, _ = task.batch("val", torch.arange(min(2, task.size("val"))))
        self._dtype = working_dtype(example.device)
        self._layout = fastest_layout(self._model, example)
        self._model = self._model.to(memory_format=self._layout)
        self._convert_weights()
        self._statistics: list[Tensor] = []
        if norms and statistics_images:
            picked = torch.randperm(task.size("train"), generator=generator)[:statistics_images]
            augmented, _ = task.batch("train", picked, augment=True, generator=generator)
            self._statistics = self._pieces(augmented)
        self._compensation = compensation or Compensation(model, network, task, images=0)
        self._readers = self._dense_readers()
        self._building = threading.Lock()
        self.evaluations = 0
        self._images = min(images, task.size("val"))
        self._dense = dense
        self._references: dict[int, Reference] = {}
        self._look_at(0)

    @property
    def dense(self) -> Reference:
        """What candidates are compared with, on the images at hand."""
        return self._references[self._part]

    def look_further(self) -> None:
        """Measure on other images of ``val`` from now on, and on the first again when all had their turn.

        Whoever searches on the same images all the time learns these images.
        """
        parts = self.task.size("val") // self._images
        if parts > 1:
            self._look_at((self._part + 1) % parts)

    def _look_at(self, part: int) -> None:
        """Make one of the disjoint parts of ``val`` resident, spread evenly, as classes may be sorted."""
        chosen = torch.arange(self._images) * self.task.size("val") // self._images + part
        inputs, targets = self.task.batch("val", chosen)
        self._part, self._val = part, self._pieces(inputs)
        self._targets = targets.split(len(self._val[0]))
        if part not in self._references:
            self._references[part] = self._reference()

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
                    blind_loss=self.dense.blind_loss,
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
            self._dense._look_at(self._part)
            return self._dense.dense
        dense = self._measure([np.ones(layer.filters, np.bool_) for layer in self.network.layers])
        if not math.isfinite(dense.accuracy + dense.loss):
            where = first_undefined(self._model, self._val[0])
            check_measured(dense, f"{self.name}, before anything is removed,", f", {where}")
        with torch.inference_mode():
            answers = [
                self._forward(self._model, piece, repeat(nullcontext())).float().sum(0) for piece in self._val
            ]
            answer = torch.stack(answers).sum(0) / dense.images
            losses = [
                float(self.task.loss(answer.expand(len(targets), *answer.shape), targets)) * len(targets)
                for targets in self._targets
            ]
        return Reference(dense.accuracy, dense.loss, dense.images, blind_loss=sum(losses) / dense.images)

    def _find(self, candidates: Sequence[Sequence[Mask]]) -> list[Found]:
        """Recall candidates from the journal, measure the others, and write these down one by one."""
        shared = self._shared_prefix(candidates)
        known, scope = self._journal, f"{self._scope}, part {self._part} of val"
        found = [known.recall(scope, masks) if known else None for masks in candidates]
        wanted = [k for k, one in enumerate(found) if one is None]
        if shared and wanted:
            wanted = sorted({0, *wanted})  # what the others share is the first one's
        with contextlib.closing(self._measured(candidates, wanted, shared)) as results:
            for k, measured in zip(wanted, results, strict=True):
                if found[k] is None:
                    check_measured(measured, f"candidate {self.evaluations + k + 1} of {self.name}")
                    found[k] = one = Found(measured.accuracy, measured.loss)
                    if known:
                        known.note(scope, candidates[k], one)
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
        model = self._cut(masks)
        passes = shared.passes(model) if shared else repeat(nullcontext())
        norms = _norms(model) if self._statistics else []
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
        for piece in self._statistics:
            self._forward(model, piece, passes)
        for norm in norms:
            norm.eval()
        loss, statistics = 0.0, None
        for piece, targets in zip(self._val, self._targets, strict=True):
            outputs = self._forward(model, piece, passes)
            found = self.task.statistics(outputs, targets)  # one piece's: those of segmentation are large
            statistics = found if statistics is None else statistics + found
            loss += float(self.task.loss(outputs, targets)) * len(targets)
        assert statistics is not None
        images = sum(map(len, self._targets))
        return Measurement(self.task.metric(statistics), loss / images, images)

    def _forward(
        self, model: nn.Module, piece: Tensor, passes: Iterator[AbstractContextManager[Any]]
    ) -> Tensor:
        with self._autocast(), next(passes):
            outputs = model(piece)
        return main_output(outputs)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._val[0].device.type, torch.bfloat16, enabled=self._dtype is torch.bfloat16)

    def _cut(self, masks: Sequence[Mask]) -> nn.Module:
        """Remove the masked filters but for those that fill up a width that kernels are made for."""
        filled = PruningPlan.from_masks(self.network, [_filled_up(mask) for mask in masks])
        with self._building, torch.inference_mode(False), torch.no_grad():
            self._mask(masks)
            return cut(self._model, self.network, filled)

    def _mask(self, masks: Sequence[Mask]) -> None:
        """Restore what reads channels, then let nothing read a removed one.

        No sum over channels but a weighted one passes the tracer unpinned, so a channel that no weight reads
        has no effect, whatever its own filter computes.
        """
        for tensor, dense in self._readers.values():
            tensor.copy_(dense)
        self._compensation.apply({name: tensor for name, (tensor, _) in self._readers.items()}, masks)

    def _dense_readers(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Pair every parameter that a mask may change with a dense copy of itself."""
        return {
            name: (parameter.data, parameter.data.clone())
            for name, parameter in self._model.named_parameters()
            if name in self._compensation.parameters
        }

    def _convert_weights(self) -> None:
        """Keep the weights of convolutions and linear layers in the working type, the rest in float32."""
        for module in self._model.modules():
            if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
                module.to(self._dtype)

    def _pieces(self, inputs: Tensor) -> list[Tensor]:
        pixels = inputs[0].numel() // inputs.shape[1]
        size = max(8, min(_LARGEST_PIECE, _PIECE_PIXELS[inputs.device.type] // pixels))
        return [x.to(self._dtype).contiguous(memory_format=self._layout) for x in inputs.split(size)]


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def _filled_up(mask: Mask) -> Mask:
    """Keep as many more filters as the next fast width has."""
    kept = int(mask.sum())
    width = _FEW if kept <= _FEW else -(-kept // _VECTOR) * _VECTOR
    filled = mask.copy()
    filled[np.flatnonzero(~mask)[: width - kept]] = True
    return filled
