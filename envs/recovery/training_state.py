"""The state of a training run after any step: enough to resume it bit by bit."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..modules.nonfinite import check_gradient
from ..modules.ranks import rank
from ..tasks.draws import derived_seed
from .stopwatch import Stopwatch

# One-cycle (Smith and Topin 2018, arXiv 1708.07120): initial / largest learning rate, and warm-up / all
# steps.
_INITIAL_RATE = 1 / 25
_WARM_UP = 0.2

_ORDER, _DROPOUT = -1, -2
"""Numbers in place of an example's index for the seeds of an epoch."""


class TrainingState:
    """Hold the state of a training run: network, optimiser, learning rate schedule and progress.

    Args:
        model: The network.
        optimizer: Its optimiser, with the largest learning rate of the schedule.
        steps: Steps of the whole training.
        seed: Seed for the order of images, and dropout.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, steps: int, seed: int) -> None:
        self.epoch = 0
        """Finished epochs."""
        self.step = 0
        """Finished steps of the current epoch."""
        self.losses: list[float] = []
        """Mean training loss of each finished epoch."""
        self.learning_rate = 0.0
        """Learning rate of the last step."""
        self._model, self._optimizer, self._seed = model, optimizer, seed
        self._scheduler = LambdaLR(optimizer, lambda step: one_cycle(step, steps))
        self._total = 0.0
        self._clock = Stopwatch()

    @property
    def seconds(self) -> float:
        """Wall-clock time so far, including that of earlier processes."""
        return self._clock.seconds

    def begin_step(self) -> None:
        """Seed dropout: each rank has its own, and none has a state that would have to be saved."""
        torch.manual_seed(derived_seed(self._seed, self.epoch, _DROPOUT, self.step, rank()))

    def order(self, images: int) -> Tensor:
        """Return the indices of the current epoch's images, in order, (images,) int64."""
        generator = torch.Generator().manual_seed(derived_seed(self._seed, self.epoch, _ORDER))
        return torch.randperm(images, generator=generator)

    def take_step(self, loss: Tensor) -> None:
        """Update the weights by the gradient of a loss.

        Raises:
            FloatingPointError: If the gradient is not finite; weights are then unchanged.
        """
        self.learning_rate = float(self._scheduler.get_last_lr()[0])
        self._optimizer.zero_grad()
        loss.backward()
        check_gradient(self._model)
        self._optimizer.step()
        self._scheduler.step()
        self._total += loss.item()
        self.step += 1

    def end_epoch(self) -> None:
        """Record the epoch's mean loss and count the epoch."""
        self.losses.append(self._total / self.step)
        self.epoch, self.step, self._total = self.epoch + 1, 0, 0.0

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state, for :class:`.checkpoint.Checkpoint`."""
        return {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "losses": self.losses,
            "learning_rate": self.learning_rate,
            "total": self._total,
            "seconds": self.seconds,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Restore the state of a snapshot."""
        self._model.load_state_dict(snapshot["model"])
        self._optimizer.load_state_dict(snapshot["optimizer"])
        self._scheduler.load_state_dict(snapshot["scheduler"])
        self.epoch, self.step = snapshot["epoch"], snapshot["step"]
        self.losses = list(snapshot["losses"])
        self.learning_rate, self._total = snapshot["learning_rate"], snapshot["total"]
        self._clock = Stopwatch(snapshot["seconds"])


def one_cycle(step: int, total: int) -> float:
    """Return the learning rate as a share of the largest one: linear warm-up, then cosine decay to 0.

    torch's OneCycleLR is the same but divides by zero for some short trainings.

    Args:
        step: Number of the step, from 0.
        total: Steps of the whole training.
    """
    warm_up = max(1, round(_WARM_UP * total))
    if step < warm_up:
        return _INITIAL_RATE + (1 - _INITIAL_RATE) * step / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))
