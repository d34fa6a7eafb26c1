"""Training shared by the ranks of ``torch.distributed``: each takes its share of every batch.

The gradients are those of one process with the whole batch, up to the order of sums, if the loss is a mean
over examples. Two things belong to a rank alone:

* Batch-norm. On GPUs its statistics are those of all ranks (``torch.nn.SyncBatchNorm``). On CPUs, where torch
  has no such module, and in subclasses of torch's own modules, each rank normalises its share by itself, and
  the running statistics are those of rank 0.
* Dropout. Its masks are a function of the seed, the epoch, the step and the rank.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from ..modules.ranks import broadcast_tensors, ranks, sum_over_ranks

LossFunction = Callable[[Any, Any], Tensor]
"""A function from inputs and targets to the mean loss."""


class SharedStep:
    """Compute the loss of a batch that the ranks share; alone, the loss of the batch.

    Its value is the whole batch's on every rank. Its ``backward()`` leaves the whole batch's gradient on
    every rank: the sum of the ranks' gradients, weighted by the sizes of their shares.

    Args:
        model: The network, as it will be trained: every rank begins with rank 0's weights.
        loss: The loss function; it runs the network.
    """

    def __init__(self, model: nn.Module, loss: LossFunction) -> None:
        self._model, self._loss = model, loss
        self._parallel: DistributedDataParallel | None = None
        if ranks() > 1:
            # The wrapped module computes the loss: weights whose outputs do not count get no gradient.
            self._parallel = DistributedDataParallel(_LossModule(model, loss), find_unused_parameters=True)

    def __call__(self, inputs: Any, targets: Any, weight: float) -> Tensor:
        """Compute the loss.

        Args:
            inputs: This rank's inputs.
            targets: This rank's targets.
            weight: This rank's examples as a share of the batch, in [0, 1].
        """
        if self._parallel is None:
            return self._loss(inputs, targets)
        loss = self._parallel(inputs, targets)
        value = sum_over_ranks(weight * loss.item()) if weight else sum_over_ranks(0.0)
        # DistributedDataParallel averages over the ranks.
        return _WithValue.apply(loss * (weight * ranks()), value)

    def exchanges(self, now: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context in which gradients are exchanged, or only added up on each rank."""
        return contextlib.nullcontext() if now or self._parallel is None else self._parallel.no_sync()

    def share_buffers(self) -> None:
        """Give every rank the buffers of rank 0, such as running statistics."""
        if self._parallel is not None:
            broadcast_tensors(self._model.buffers())


def sharing_notes(model: nn.Module) -> tuple[str, ...]:
    """Say in a sentence for the report how several ranks train a network; nothing for one rank."""
    if ranks() == 1:
        return ()
    sentence = f"{ranks()} processes trained on shares of each batch"
    if _is_on_gpu(model):
        return (f"{sentence}, with the batch-norm statistics of all of them.",)
    if any(isinstance(module, _BatchNorm) for module in model.modules()):
        sentence += "; each normalised its share by itself, as torch has no shared batch-norm on a CPU"
    return (f"{sentence}.",)


def _is_on_gpu(model: nn.Module) -> bool:
    return any(parameter.is_cuda for parameter in model.parameters())


class _LossModule(nn.Module):
    """The loss of a network as a module."""

    def __init__(self, model: nn.Module, loss: LossFunction) -> None:
        super().__init__()
        self.model = model
        # torch looks for unused weights in every step, and prints a warning on each rank if there are none.
        self.unused = nn.Parameter(torch.zeros(()))
        self._loss = loss

    def forward(self, inputs: Any, targets: Any) -> Tensor:
        """Compute the loss."""
        return self._loss(inputs, targets)


class _WithValue(torch.autograd.Function):
    """Replace the value of a loss and keep its gradient."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, value: float) -> Tensor:
        return loss.new_tensor(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


@contextlib.contextmanager
def synchronised_batchnorm(model: nn.Module) -> Iterator[None]:
    """Let batch-norm on GPUs use the statistics of all ranks' examples inside the context.

    Args:
        model: The network. Its modules are replaced in the context; weights and statistics stay the same
            tensors.
    """
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    if ranks() > 1 and _is_on_gpu(model):
        for parent in list(model.modules()):
            for name, child in parent.named_children():
                if type(child) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
                    replaced.append((parent, name, child))
                    shared = nn.SyncBatchNorm.convert_sync_batchnorm(child)
                    shared._forward_hooks = child._forward_hooks  # such as the rounding of fake quantisation
                    parent.add_module(name, shared)
    try:
        yield
    finally:
        for parent, name, child in replaced:
            parent.add_module(name, child)
