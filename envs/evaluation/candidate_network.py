"""What candidate masks of a network answer, on images that are resident.

Images are cut into pieces that fit the cache; convolutions run in bfloat16 and channels-last where the
processor has instructions for it, batch-norm in float32. On a CPU a candidate is cut to the next widths that
kernels are made for. On a GPU, which computes a layer faster than it is launched, candidates are masked, so
that all have the shapes of the dense network, and their passes are recorded once and replayed
(:mod:`.replay`). A candidate's batch-norm statistics are taken anew from training images augmented as in
training, because accuracy without that says nothing of accuracy after recovery (Li et al. 2020, "EagleEye",
arXiv 2007.02491).

Shapes: S images for statistics, P images of a piece, N filters of a layer.
"""

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..modules.cuda_graphs import capture_graph
from ..modules.modes import fastest_layout
from ..modules.outputs import main_output
from ..modules.precision import working_dtype
from ..recovery.compensation import Compensation
from ..surgery.cutting import Mask, PruningPlan, cut
from ..tasks.base import Task
from ..tracing import TracedNetwork
from .shared_prefix import SharedPrefix

_PIECE_PIXELS = {"cpu": 128 * 32 * 32, "cuda": 4096 * 32 * 32}
"""Pixels of the images in one forward pass: 128 CIFAR images stay in a core's cache (1.8 times faster than
512)."""

_LARGEST_PIECE = 1024

_FEW, _VECTOR = 8, 8 if torch.backends.cpu.get_cpu_capability() == "AVX2" else 16
"""Widths that oneDNN and batch-norm have kernels for: 8, and multiples of 16, with AVX2 alone of 8. Between
them they are slower than at the next of them, and each new shape costs a millisecond of set-up."""


class CandidateNetwork:
    """One resident copy of the dense network, from which every candidate is made.

    What a candidate answers depends on its own masks, never on what was run before or beside it.

    Args:
        model: The dense network; it is copied.
        network: Its trace.
        task: Training images.
        statistics_images: S, augmented images of ``train`` for batch-norm statistics; 0 keeps the dense
            statistics.
        compensation: Gives what removed channels contributed to the kept ones; None lets them just go.
        seed: Chooses and augments the images for statistics.
    """

    def __init__(
        self,
        model: nn.Module,
        network: TracedNetwork,
        task: Task,
        *,
        statistics_images: int,
        compensation: Compensation | None,
        seed: int,
    ) -> None:
        self.network = network
        self.model = copy.deepcopy(model).eval()
        example, _ = task.batch("train", torch.arange(min(2, task.size("train"))))
        self._dtype = working_dtype(example.device)
        self._layout = fastest_layout(self.model, example)
        self.model = self.model.to(memory_format=self._layout)
        self._convert_weights()
        self._statistics: list[Tensor] = []
        if _norms(self.model) and statistics_images:
            generator = torch.Generator().manual_seed(seed)
            picked = torch.randperm(task.size("train"), generator=generator)[:statistics_images]
            augmented, _ = task.batch("train", picked, augment=True, generator=generator)
            self._statistics = self.pieces(augmented)
        self._compensation = compensation or Compensation(model, network, task, images=0)
        self._readers = self._dense_readers()
        self._building = threading.Lock()
        self._recording: _Recording | None = None

    def pieces(self, inputs: Tensor) -> list[Tensor]:
        """Cut images into pieces (P, C, H, W) of the type and the layout that the network computes in."""
        pixels = inputs[0].numel() // inputs.shape[1]
        size = max(8, min(_LARGEST_PIECE, _PIECE_PIXELS[inputs.device.type] // pixels))
        return [x.to(self._dtype).contiguous(memory_format=self._layout) for x in inputs.split(size)]

    @torch.inference_mode()
    def record(self, pieces: Sequence[Tensor]) -> None:
        """On a GPU record a candidate's passes, where that can be.

        Args:
            pieces: Images like all later ones.
        """

        def take(*pieces: Tensor) -> None:
            self._take_statistics(self.model, pieces, repeat(nullcontext()))

        before = [buffer.clone() for buffer in self.model.buffers()]
        taken = capture_graph(take, *self._statistics) if self._statistics else lambda: None
        answers = {len(piece): capture_graph(self.dense_answer, piece) for piece in pieces} if taken else {}
        known = {size: answer for size, answer in answers.items() if answer}
        if taken and len(known) == len(answers):
            self._recording = _Recording(taken, known)
            return
        for buffer, dense in zip(self.model.buffers(), before, strict=True):
            buffer.copy_(dense)  # a recording that failed took statistics

    @property
    def shares(self) -> bool:
        """Whether what candidates have in common can be computed once."""
        return self._recording is None

    def dense_answer(self, piece: Tensor) -> Tensor:
        """Run the resident copy as it is: masked as the last candidate."""
        return self._forward(self.model, piece, repeat(nullcontext()))

    def answers(
        self, masks: Sequence[Mask], pieces: Sequence[Tensor], shared: SharedPrefix | None = None
    ) -> Iterator[Tensor]:
        """Run a candidate, in inference mode, after batch-norm has seen the images for statistics.

        Args:
            masks: One keep mask (N,) a layer.
            pieces: Images.
            shared: What it has in common with others.

        Returns:
            Its float32 answers to each piece, to be used before the next.
        """
        if self._recording:
            self._mask(masks)
            self._recording.take_statistics(*self._statistics)
            yield from (self._recording.answer[len(piece)](piece) for piece in pieces)
            return
        model = self.cut(masks)
        passes = shared.passes(model) if shared else repeat(nullcontext())
        self._take_statistics(model, self._statistics, passes)
        for piece in pieces:
            yield self._forward(model, piece, passes)

    def cut(self, masks: Sequence[Mask]) -> nn.Module:
        """Remove the masked filters but for those that fill up a width that kernels are made for."""
        filled = PruningPlan.from_masks(self.network, [_filled_up(mask) for mask in masks])
        with self._building, torch.inference_mode(False), torch.no_grad():
            self._mask(masks)
            return cut(self.model, self.network, filled)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _mask(self, masks: Sequence[Mask]) -> None:
        """Restore what reads channels, then let nothing read a removed one.

        No sum over channels but a weighted one passes the tracer unpinned, so a channel that no weight reads
        has no effect, whatever its own filter computes.
        """
        for tensor, dense in self._readers.values():
            tensor.copy_(dense)
        self._compensation.apply({name: tensor for name, (tensor, _) in self._readers.items()}, masks)

    def _take_statistics(
        self, model: nn.Module, pieces: Sequence[Tensor], passes: Iterator[AbstractContextManager[Any]]
    ) -> None:
        """Average batch-norm statistics over pieces; without any they stay."""
        norms = _norms(model) if pieces else []
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
        try:
            for count, piece in enumerate(pieces, start=1):
                for norm in norms:
                    norm.momentum = 1 / count  # as None would, which asks the device for the count
                self._forward(model, piece, passes)
        finally:
            for norm in norms:
                norm.eval()

    def _forward(
        self, model: nn.Module, piece: Tensor, passes: Iterator[AbstractContextManager[Any]]
    ) -> Tensor:
        piece = piece.clone()  # some networks edit what they are given; before what is shared begins
        fast = self._dtype is torch.bfloat16  # without autocast's cache, which a recording must not read
        with (
            torch.autocast(piece.device.type, torch.bfloat16, enabled=fast, cache_enabled=False),
            next(passes),
        ):
            outputs = model(piece)
        return main_output(outputs)

    def _dense_readers(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Pair every parameter that a mask may change with a dense copy of itself."""
        return {
            name: (parameter.data, parameter.data.clone())
            for name, parameter in self.model.named_parameters()
            if name in self._compensation.parameters
        }

    def _convert_weights(self) -> None:
        """Keep the weights of convolutions and linear layers in the working type, the rest in float32."""
        for module in self.model.modules():
            if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
                module.to(self._dtype)


@dataclass(frozen=True)
class _Recording:
    """A candidate's passes on a GPU.

    Args:
        take_statistics: Of the pieces of ``train``, for batch-norm.
        answer: Runs a piece, by the number of its images.
    """

    take_statistics: Callable[..., None]
    answer: dict[int, Callable[[Tensor], Tensor]]


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def _filled_up(mask: Mask) -> Mask:
    """Keep as many more filters as the next fast width has."""
    kept = int(mask.sum())
    width = _FEW if kept <= _FEW else -(-kept // _VECTOR) * _VECTOR
    filled = mask.copy()
    filled[np.flatnonzero(~mask)[: width - kept]] = True
    return filled
