"""The state of a training run after any step: enough to resume it bit by bit."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..modules.nonfinite import gradient_norm
from ..modules.ranks import rank
from ..tasks.draws import derived_seed
from .averaging import averaged_model, copy_average
from .callbacks import Progress
from .config import RecoveryConfig
from .optimisation import largest_gradient, make_optimizer
from .schedules import learning_rate_factor
from .stopwatch import Stopwatch

_ORDER, _DROPOUT = -1, -2
"""Numbers in place of an example's index for the seeds of an epoch."""


class TrainingState:
    """Hold the state of a training run: network, its average, optimiser, schedule and progress.

    Args:
        model: The network, on its device.
        config: Settings of the training.
        steps: Steps of the whole training.
        seed: Seed for the order of images, and dropout.
    """

    def __init__(self, model: nn.Module, config: RecoveryConfig, steps: int, seed: int) -> None:
        self.epoch = 0
        """Finished epochs."""
        self.step = 0
        """Finished steps of the current epoch."""
        self.losses: list[float] = []
        """Mean training loss of each finished epoch."""
        self.loss = 0.0
        """Sum of the losses that were added in the last step."""
        self.learning_rate = 0.0
        """Learning rate of the last step."""
        self.val_accuracies: list[float] = []
        """The metric on val after each finished epoch, percent, where it is measured."""
        self.stopped = ""
        """When a callback ended the training, in words; "" while none did."""
        self._model, self._optimizer, self._seed = model, make_optimizer(model, config), seed
        self._recipe, self._max_norm = config.recipe, largest_gradient(model, config)
        self._steps, self._finished = steps, 0
        device = next(model.parameters()).device.type
        self._scaler = torch.amp.GradScaler(device, enabled=config.precision == "fp16")
        self._average = averaged_model(model, config.ema_decay) if config.ema_decay else None
        self._total = 0.0
        self._before: list[Tensor] = []  # buffers, while a step is under way
        self._clock = Stopwatch()

    @property
    def seconds(self) -> float:
        """Wall-clock time so far, including that of earlier processes."""
        return self._clock.seconds

    def begin_step(self) -> None:
        """Forget the last step's gradient, and seed dropout.

        Each rank has its own dropout, and none has a state that would have to be saved.
        """
        self.loss = 0.0
        self._before = [buffer.clone() for buffer in self._model.buffers()]
        self._optimizer.zero_grad()
        torch.manual_seed(derived_seed(self._seed, self.epoch, _DROPOUT, self.step, rank()))

    @torch.no_grad()
    def abandon_step(self) -> None:
        """Undo a step that was begun and not taken: the passes so far have changed running statistics."""
        for buffer, before in zip(self._model.buffers(), self._before, strict=bool(self._before)):
            buffer.copy_(before)
        self._before = []

    def order(self, images: int) -> Tensor:
        """Return the indices of the current epoch's images, in order, (images,) int64."""
        generator = torch.Generator().manual_seed(derived_seed(self._seed, self.epoch, _ORDER))
        return torch.randperm(images, generator=generator)

    def add(self, loss: Tensor) -> None:
        """Add the gradient of a loss to that of the step.

        Raises:
            FloatingPointError: If the loss is not finite.
        """
        self.loss += loss.item()
        if not math.isfinite(self.loss):
            raise FloatingPointError(f"the loss became {self.loss}")
        self._scaler.scale(loss).backward()

    def take_step(self) -> None:
        """Update the weights by the gradient of the losses that were added.

        Raises:
            FloatingPointError: If the gradient is not finite; weights are then unchanged.
        """
        factor = learning_rate_factor(self._finished, self._steps, self._recipe.warmup)
        self.learning_rate = self._recipe.learning_rate * factor
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate
        self._scaler.unscale_(self._optimizer)
        self._clip()
        self._scaler.step(self._optimizer)  # which it leaves out if the scaled gradient was infinite
        self._scaler.update()
        if self._average is not None:
            self._average.update_parameters(self._model)
        self._before = []
        self._total += self.loss
        self._finished += 1
        self.step += 1

    def _clip(self) -> None:
        """Scale a gradient down to the largest norm, and refuse one that is not finite."""
        norm = gradient_norm(self._model)
        if not math.isfinite(norm):
            if self._scaler.is_enabled() and self._scaler.get_scale() > 1:  # a smaller one will do
                return
            raise FloatingPointError(f"the norm of the gradient became {float(norm)}")
        if self._max_norm is not None:
            nn.utils.clip_grads_with_norm_(self._model.parameters(), self._max_norm, norm)

    def keep_average(self) -> None:
        """Write the average of the weights, if there is one, into the network."""
        if self._average is not None:
            copy_average(self._average, self._model)

    def end_epoch(self, val_accuracy: float | None) -> None:
        """Record the epoch's mean loss and the metric on val, percent, if measured; and count the epoch."""
        self.val_accuracies += [] if val_accuracy is None else [val_accuracy]
        self.losses.append(self._total / self.step)
        self.epoch, self.step, self._total = self.epoch + 1, 0, 0.0

    def progress(self, epochs: int, steps: int, speed: float) -> Progress:
        """Describe the progress for callbacks: of a step, or of an epoch that has just ended.

        Args:
            epochs: Epochs of the whole training.
            steps: Steps of an epoch.
            speed: Images per second.
        """
        epoch, step, loss = self.epoch + 1, self.step, self.loss
        if not step:
            epoch, step, loss = self.epoch, steps, self.losses[-1]
        measured = tuple(self.val_accuracies)
        return Progress(epoch, epochs, step, steps, loss, self.learning_rate, speed, measured)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state, for :class:`.checkpoint.Checkpoint`."""
        return {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": self._average.state_dict() if self._average is not None else {},
            "finished": self._finished,
            "epoch": self.epoch,
            "step": self.step,
            "losses": self.losses,
            "val_accuracies": self.val_accuracies,
            "stopped": self.stopped,
            "learning_rate": self.learning_rate,
            "total": self._total,
            "seconds": self.seconds,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Restore the state of a snapshot."""
        self._model.load_state_dict(snapshot["model"])
        self._optimizer.load_state_dict(snapshot["optimizer"])
        self._scaler.load_state_dict(snapshot["scaler"])
        if self._average is not None:
            self._average.load_state_dict(snapshot["average"])
        self._finished = snapshot["finished"]
        self.epoch, self.step = snapshot["epoch"], snapshot["step"]
        self.losses = list(snapshot["losses"])
        self.val_accuracies, self.stopped = list(snapshot["val_accuracies"]), snapshot["stopped"]
        self.learning_rate, self._total = snapshot["learning_rate"], snapshot["total"]
        self._clock = Stopwatch(snapshot["seconds"])
