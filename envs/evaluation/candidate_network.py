"""Compute the outputs of candidates on images that stay in memory.

Images are split into pieces that fit the cache. Convolutions run in bfloat16 and channels-last if the
hardware has instructions for it, batch-norm in float32. On a CPU a candidate is cut, to the next larger
widths for which there are fast kernels, and its tensors run through the recorded operations of the network
(:mod:`.candidate_program`). A network that cannot be recorded is cut with its modules. On a GPU, which
computes a layer faster than it is launched, candidates are masked. So all have the shapes of the dense
network, and their passes are captured once as CUDA graphs and replayed
(:mod:`secateur.envs.modules.cuda_graphs`). Batch-norm statistics are re-estimated for each candidate on
training images augmented as in training. Without that, its accuracy says nothing about the accuracy after
recovery (Li et al. 2020, "EagleEye", arXiv 2007.02491).

Shapes: S images for statistics, P images of a piece, N filters of a layer.
"""

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

from ..modules.copying import replica
from ..modules.cuda_graphs import capture_graph
from ..modules.modes import fastest_layout, takes_channels_last
from ..modules.outputs import main_output
from ..modules.precision import working_dtype
from ..recovery.compensation import Compensation
from ..surgery.cutting import cut
from ..surgery.plan import Mask, PruningPlan, resize_mask
from ..surgery.slicing import TensorSlicer
from ..tracing import TracedNetwork
from ..tracing.network import Ints
from .candidate_program import CandidateProgram, compile_program
from .operation_graph import named_tensors
from .shared_prefix import SharedPrefix

_PIECE_PIXELS = {"cpu": 128 * 32 * 32, "cuda": 4096 * 32 * 32}
"""Pixels of the images in one forward pass: 128 CIFAR images stay in a core's cache (1.8 times faster than
512)."""

_LARGEST_PIECE = 1024

_FEW, _VECTOR = 8, 8 if torch.backends.cpu.get_cpu_capability() == "AVX2" else 16
"""Widths with fast kernels in oneDNN and batch-norm: 8, and multiples of 16 (of 8 if there is only AVX2).
Other widths are slower than the next larger of these, and each new shape costs a millisecond of set-up."""


class CandidateNetwork:
    """Hold one copy of the dense network and derive every candidate from it.

    The outputs of a candidate depend only on its masks, not on candidates that run before it or in parallel.

    Args:
        model: The dense network; it is copied.
        network: Its trace.
        example: One or two images.
        statistics_images: S augmented images of ``train`` for batch-norm statistics; without any, the dense
            statistics stay.
        compensation: Lets kept channels make up for removed ones.
        gives_outputs: Whether its main output is what is measured; else candidates are run as modules.
    """

    def __init__(
        self,
        model: nn.Module,
        network: TracedNetwork,
        example: Tensor,
        statistics_images: Tensor,
        compensation: Compensation,
        *,
        gives_outputs: bool = True,
    ) -> None:
        self.network = network
        self.model = replica(model).eval()
        self._gives_outputs = gives_outputs
        # A network's own losses may not run in less than float32.
        self._dtype = working_dtype(example.device) if gives_outputs else torch.float32
        pixels = example[0].numel() // example.shape[1]
        self.piece_size = max(8, min(_LARGEST_PIECE, _PIECE_PIXELS[example.device.type] // pixels))
        """Images of a piece, P, at most."""
        if takes_channels_last(
            self.model, example
        ):  # before the trial pass, as outputs take over the layout of the weights
            self.model = self.model.to(memory_format=torch.channels_last)
        self._layout = fastest_layout(self.model, example)
        self.model = self.model.to(memory_format=self._layout)
        self._convert_weights()
        self.statistics_images = self.pieces(statistics_images) if len(statistics_images) else []
        self._compensation = compensation
        self._readers = self._dense_readers()
        self._building = threading.Lock()
        self._recording: _Recording | None = None
        self._whole_counts = [network.whole_counts(number) for number in range(len(network.layers))]
        self._tensors = named_tensors(self.model)
        self._slicer = TensorSlicer(network, {name: tensor.shape for name, tensor in self._tensors.items()})
        is_compiled = example.device.type == "cpu" and self._gives_outputs
        self._program = self._compile(example) if is_compiled else None

    def pieces(self, inputs: Tensor) -> list[Tensor]:
        """Split images into pieces (P, ...) with the data type and memory layout of the network."""
        return [self.converted(x) for x in inputs.split(self.piece_size)]

    def converted(self, inputs: Tensor) -> Tensor:
        """Convert images to the data type and memory layout of the network."""
        return inputs.to(self._dtype).contiguous(memory_format=self._layout)

    @torch.inference_mode()
    def record(self, pieces: Sequence[Tensor]) -> None:
        """Capture a candidate's passes as CUDA graphs, if on a GPU and possible.

        Args:
            pieces: Images with the shapes, data types and layouts of all later ones.
        """
        if not self._gives_outputs:
            return

        def take(*pieces: Tensor) -> None:
            self._take_statistics(self.model, pieces, repeat(nullcontext()))

        before = [buffer.clone() for buffer in self.model.buffers()]
        taken = capture_graph(take, *self.statistics_images) if self.statistics_images else lambda: None
        answers = {len(piece): capture_graph(self.dense_answer, piece) for piece in pieces} if taken else {}
        known = {size: answer for size, answer in answers.items() if answer}
        if taken and len(known) == len(answers):
            self._recording = _Recording(taken, known)
            return
        for buffer, dense in zip(self.model.buffers(), before, strict=True):
            buffer.copy_(dense)  # a recording that failed took statistics

    @property
    def shares(self) -> bool:
        """Whether candidates can share the computation of a common prefix."""
        return self._recording is None and self._gives_outputs

    @torch.inference_mode()
    def dense_answer(self, piece: Tensor) -> Tensor:
        """Run the copy with its current masks: those of the last candidate."""
        return self._forward(self.model, piece, repeat(nullcontext()))

    @property
    def answers_at_once(self) -> bool:
        """Whether several threads may call what :meth:`answering` returns at the same time."""
        return self._program is not None and self._recording is None

    def answering(
        self, masks: Sequence[Mask], shared: SharedPrefix | None = None
    ) -> Callable[[Tensor], Tensor]:
        """Re-estimate a candidate's batch-norm statistics, in inference mode.

        Args:
            masks: One keep mask (N,) per layer.
            shared: The prefix shared with other candidates, or None.

        Returns:
            Computes its float32 outputs for a piece; the next piece may overwrite them.
        """
        if self._recording:
            self._mask(masks)
            self._recording.take_statistics(*self.statistics_images)
            recording = self._recording
            return lambda piece: recording.answer[len(piece)](piece)
        if self._program:
            return self._program.prepared(self._cut_tensors(masks), self.statistics_images, shared)
        model = self.cut(masks)
        passes = shared.passes(list(named_tensors(model).items())) if shared else repeat(nullcontext())
        self._take_statistics(model, self.statistics_images, passes)
        return lambda piece: self._forward(model, piece, passes)

    def re_estimated(self, masks: Sequence[Mask]) -> nn.Module:
        """Cut as :meth:`cut` does, and re-estimate batch-norm statistics."""
        model = self.cut(masks)
        self._take_statistics(model, self.statistics_images, repeat(nullcontext()))
        return model

    def cut(self, masks: Sequence[Mask]) -> nn.Module:
        """Remove the masked filters, except those that fill up a width with fast kernels."""
        filled = PruningPlan.from_masks(self.network, self._filled_up(masks))
        with self._building, torch.inference_mode(False), torch.no_grad():
            self._mask(masks)
            return cut(self.model, self.network, filled)

    def _filled_up(self, masks: Sequence[Mask]) -> list[Mask]:
        return [_filled_up(mask, counts) for mask, counts in zip(masks, self._whole_counts, strict=True)]

    def _cut_tensors(self, masks: Sequence[Mask]) -> dict[str, Tensor]:
        """Return the parameters and buffers of :meth:`cut` by name, without making its modules."""
        read = {name: dense.clone() for name, (_, dense) in self._readers.items()}
        self._compensation.apply(read, masks)
        tensors = self._tensors | read
        for name, axis, positions in self._slicer.kept(self._filled_up(masks)):
            tensors[name] = tensors[name].index_select(axis, positions)
        return tensors

    @torch.inference_mode()
    def _compile(self, example: Tensor) -> CandidateProgram | None:
        """Compile the network's operations; None if that is not possible."""
        (few,) = self.pieces(example)
        probes = [[np.arange(width) % 5 != k for width in self.network.widths] for k in (0, 1, 2)]
        for masks in probes:
            counts = self.network.nearest_whole([max(1, mask.sum()) for mask in masks])
            masks[:] = [
                resize_mask(mask, n, np.ones(len(mask))) for mask, n in zip(masks, counts, strict=True)
            ]
        with torch.inference_mode(False), torch.no_grad():
            plans = [PruningPlan.from_masks(self.network, masks) for masks in probes]
            cuts = [cut(self.model, self.network, plan) for plan in plans]
        norms = [
            (f"{name}.running_mean".lstrip("."), f"{name}.running_var".lstrip("."))
            for name, module in self.model.named_modules()
            if isinstance(module, _BatchNorm) and module.track_running_stats
        ]

        def forward(model: nn.Module, piece: Tensor) -> Tensor:
            return self._forward(model, piece, repeat(nullcontext()))

        def measured(model: nn.Module) -> Tensor:
            self._take_statistics(model, [few], repeat(nullcontext()))
            return forward(model, few)

        return compile_program(forward, measured, [self.model, *cuts], few, norms)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _mask(self, masks: Sequence[Mask]) -> None:
        """Restore the consumers' weights, then zero their weights on removed channels.

        Every sum over unpinned channels is weighted: the tracer pins the channels of all others. So a channel
        with zero weights in its consumers has no effect, whatever its filter computes.
        """
        for tensor, dense in self._readers.values():
            tensor.copy_(dense)
        self._compensation.apply({name: tensor for name, (tensor, _) in self._readers.items()}, masks)

    def _take_statistics(
        self, model: nn.Module, pieces: Sequence[Tensor], passes: Iterator[AbstractContextManager[Any]]
    ) -> None:
        """Average batch-norm statistics over pieces; without pieces, keep the statistics."""
        norms = tracked_norms(model) if pieces else []
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
        try:
            for count, piece in enumerate(pieces, start=1):
                for norm in norms:
                    norm.momentum = 1 / count  # the same as None, which would read the count from the device
                self._run(model, piece, passes)
        finally:
            for norm in norms:
                norm.eval()

    def _forward(
        self, model: nn.Module, piece: Tensor, passes: Iterator[AbstractContextManager[Any]]
    ) -> Tensor:
        return main_output(self._run(model, piece, passes))

    def _run(self, model: nn.Module, piece: Tensor, passes: Iterator[AbstractContextManager[Any]]) -> Any:
        piece = piece.clone()  # some networks edit their input; copied before the shared prefix begins
        fast = self._dtype is torch.bfloat16  # without autocast's cache, which a CUDA graph must not read
        with (
            torch.autocast(piece.device.type, torch.bfloat16, enabled=fast, cache_enabled=False),
            next(passes),
        ):
            return model(piece)

    def _dense_readers(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Pair every parameter that masks may change with a copy of its dense values."""
        return {
            name: (parameter.data, parameter.data.clone())
            for name, parameter in self.model.named_parameters()
            if name in self._compensation.parameters
        }

    def _convert_weights(self) -> None:
        """Convert the weights of convolutions and linear layers to the working data type.

        Weights that are computed from other tensors stay: some, such as orthogonal ones, need float32.
        """
        for module in self.model.modules():
            if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)) and "weight" in module._parameters:
                module.to(self._dtype)


@dataclass(frozen=True)
class _Recording:
    """A candidate's passes as CUDA graphs.

    Args:
        take_statistics: Re-estimates batch-norm statistics from pieces of ``train``.
        answer: Functions that run a piece, by the number of its images.
    """

    take_statistics: Callable[..., None]
    answer: dict[int, Callable[[Tensor], Tensor]]


def tracked_norms(model: nn.Module) -> list[_BatchNorm]:
    """List the batch-norms that normalise with running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def _filled_up(mask: Mask, counts: Ints) -> Mask:
    """Keep more filters, up to the next fast width that is one of ``counts``."""
    kept = int(mask.sum())
    width = _FEW if kept <= _FEW else -(-kept // _VECTOR) * _VECTOR
    width = int(counts[np.searchsorted(counts, min(width, len(mask)))])
    filled = mask.copy()
    filled[np.flatnonzero(~mask)[: width - kept]] = True
    return filled
