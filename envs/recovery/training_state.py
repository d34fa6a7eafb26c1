"""Where a training stands, down to the step: enough to go on as if it had never stopped."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..modules.nonfinite import check_gradient
from .stopwatch import Stopwatch

# One-cycle (Smith and Topin 2018, arXiv 1708.07120): where the learning rate starts, and how long it rises.
_INITIAL_RATE = 1 / 25
_RISING = 0.2


class TrainingState:
    """A network in training, its optimiser, its place in the learning rate's cycle, and its random numbers.

    Args:
        model: The network.
        optimizer: Its optimiser, with the largest learning rate of the cycle.
        steps: Of the whole training.
        seed: Of the order of images, their augmentation, and dropout.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, steps: int, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.epoch = 0
        """Finished epochs."""
        self.step = 0
        """Finished steps of the epoch at hand."""
        self.order = torch.empty(0, dtype=torch.int64)
        """Of the epoch's images."""
        self.losses: list[float] = []
        """Mean of every finished epoch."""
        self.learning_rate = 0.0
        """Of the last step."""
        self._model, self._optimizer = model, optimizer
        self._scheduler = LambdaLR(optimizer, lambda step: one_cycle(step, steps))
        self._total = 0.0
        self._clock = Stopwatch()

    @property
    def seconds(self) -> float:
        """Wall-clock time so far, of all processes that had a part in it."""
        return self._clock.seconds

    def begin_epoch(self, images: int) -> None:
        """Draw the order of the images, and seed dropout."""
        self.order = torch.randperm(images, generator=self.generator)
        torch.manual_seed(int(torch.randint(2**62, (), generator=self.generator)))
        self._total = 0.0

    def take_step(self, loss: Tensor) -> None:
        """Follow the gradient of a loss.

        Raises:
            FloatingPointError: If the gradient is not finite; nothing has changed then.
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
        """Count the epoch."""
        self.losses.append(self._total / self.step)
        self.epoch, self.step = self.epoch + 1, 0

    def snapshot(self) -> dict[str, Any]:
        """Give all of it, for :class:`.checkpoint.Checkpoint`."""
        return {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
            "generator": self.generator.get_state(),
            "dropout": torch.get_rng_state(),
            "dropout_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "epoch": self.epoch,
            "step": self.step,
            "order": self.order,
            "losses": self.losses,
            "learning_rate": self.learning_rate,
            "total": self._total,
            "seconds": self.seconds,
        }

    def restore(self, known: dict[str, Any]) -> None:
        """Stand where a snapshot was taken."""
        self._model.load_state_dict(known["model"])
        self._optimizer.load_state_dict(known["optimizer"])
        self._scheduler.load_state_dict(known["scheduler"])
        self.generator.set_state(known["generator"])
        torch.set_rng_state(known["dropout"])
        if known["dropout_cuda"]:
            torch.cuda.set_rng_state_all(known["dropout_cuda"])
        self.epoch, self.step = known["epoch"], known["step"]
        self.order, self.losses = known["order"], list(known["losses"])
        self.learning_rate, self._total = known["learning_rate"], known["total"]
        self._clock = Stopwatch(known["seconds"])


def one_cycle(step: int, total: int) -> float:
    """Give the learning rate as a share of the largest one: a quick rise, then a cosine down to nothing.

    torch's OneCycleLR is the same but divides by zero for some short trainings.

    Args:
        step: From 0.
        total: Steps of the whole training.
    """
    rising = max(1, round(_RISING * total))
    if step < rising:
        return _INITIAL_RATE + (1 - _INITIAL_RATE) * step / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))
