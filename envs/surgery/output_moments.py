"""Mean and covariance of the outputs of layers over training images, for layers of low rank.

Shapes: B examples, N filters of a layer, S samples.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from ..modules.copying import with_own_state
from ..modules.inputs import run_on_copy
from ..tasks import Task
from ..tasks.training_images import drawn_inputs
from .low_rank import Moments

POSITIONS = 64
"""Largest number of positions of a feature map that count, per image."""


def output_moments(
    model: nn.Module, names: Collection[str], task: Task, *, images: int, seed: int = 0
) -> dict[str, Moments]:
    """Return the mean (N,) and covariance (N, N) of the outputs of layers, by module name.

    Args:
        model: A network, on the task's device; it is not changed.
        names: Names of convolutions and linear layers. One that no image reaches gets no moments.
        task: The task with the training images, augmented as in training; labels are not used.
        images: Number of images, at least 1.
        seed: Seed for the choice of images, their augmentation, and positions.
    """
    model = with_own_state(model).eval()
    sums = {name: _Sums(seed) for name in names}
    for name, sum_ in sums.items():
        model.get_submodule(name).register_forward_hook(sum_.add)
    with torch.no_grad():
        for inputs in drawn_inputs(task, images, seed):
            run_on_copy(model, inputs)
    return {name: sum_.moments for name, sum_ in sums.items() if sum_.samples}


class _Sums:
    """Sums over the outputs of one layer."""

    def __init__(self, seed: int) -> None:
        self.samples = 0
        self._sum = self._products = torch.zeros((), dtype=torch.float64)
        self._generator = torch.Generator().manual_seed(seed)

    def add(self, module: nn.Module, _: Any, output: Tensor) -> None:
        """Add the outputs of a pass."""
        axis = -1 if isinstance(module, nn.Linear) else output.dim() - len(module.kernel_size) - 1  # type: ignore
        rows = output.detach().movedim(axis, 0).flatten(1)
        most = output.shape[0] * POSITIONS
        if rows.shape[1] > most:
            chosen = torch.randint(rows.shape[1], (most,), generator=self._generator)
            rows = rows[:, chosen.to(rows.device)]
        rows = rows.double().cpu()
        self.samples += rows.shape[1]
        self._sum = self._sum + rows.sum(1)
        self._products = self._products + rows @ rows.T

    @property
    def moments(self) -> Moments:
        mean = self._sum / self.samples
        return mean, self._products / self.samples - torch.outer(mean, mean)
