"""The loss of a training step: targets, distillation, auxiliary heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..modules.inputs import run_on_copy
from ..modules.modes import restored_modes
from ..modules.outputs import main_and_auxiliary, main_output
from ..modules.precision import autocast
from ..modules.randomness import fixed_randomness
from ..tasks.base import Task
from ..tasks.optional_members import smoothed_loss, training_loss
from .config import RecoveryConfig
from .distillation import compare, compares_features

# Weight of an auxiliary classifier in the loss: Szegedy et al. 2015, arXiv 1409.4842, section 5.
_AUXILIARY_WEIGHT = 0.3


@dataclass(frozen=True)
class StepLoss:
    """Compute the loss of a training step.

    Auxiliary outputs count if they have the shape of the main output. Others, such as those of deep
    supervision at lower resolutions, cannot be compared with the targets.

    If the distillation compares features, network and teacher give their outputs and their features, as
    :class:`.distillation.WithFeatures` does.

    Args:
        task: The task that defines the loss.
        teacher: Runs the network to distil from; None trains on the targets alone.
        config: Settings of the training.
        main_shape: Shape of the main output for one example; see :func:`.main_and_auxiliary`.
    """

    task: Task
    teacher: Callable[[Tensor], Any] | None
    config: RecoveryConfig
    main_shape: tuple[int, ...] | None = None

    def __call__(self, model: Callable[[Tensor], Any], inputs: Tensor, targets: Tensor) -> Tensor:
        """Run the network and the teacher and compute the loss."""
        precision, smoothing = self.config.precision, self.config.label_smoothing
        with autocast(inputs.device, precision):
            given, features = self._answer(model, inputs)
        own = None if smoothing else training_loss(self.task, given, targets)
        if own is not None and self.teacher is None:
            return own
        outputs, auxiliary = main_and_auxiliary(given, self.main_shape)
        loss = smoothed_loss(self.task, outputs, targets, smoothing) if own is None else own
        if self.teacher is not None:
            with torch.no_grad(), autocast(inputs.device, precision):
                answer, features_there = self._answer(self.teacher, inputs)
            student = outputs if features is None else features
            teacher = main_output(answer) if features_there is None else features_there
            share = self.config.recipe.distillation_weight
            loss = (1 - share) * loss + share * compare(self.task, self.config, student, teacher)
        for other in auxiliary if own is None else ():
            if other.shape == outputs.shape:
                loss = loss + _AUXILIARY_WEIGHT * smoothed_loss(self.task, other, targets, smoothing)
        return loss

    def _answer(self, model: Callable[[Tensor], Any], inputs: Tensor) -> tuple[Any, Tensor | None]:
        """Return a network's outputs, and its features if the distillation compares them."""
        given = run_on_copy(model, inputs)
        return given if self.teacher is not None and compares_features(self.config) else (given, None)


def shape_of_answer(model: nn.Module, inputs: Tensor) -> tuple[int, ...]:
    """Return the shape of the main output for one example in evaluation mode."""
    with restored_modes(model), torch.no_grad(), fixed_randomness(), autocast(inputs.device):
        return tuple(main_output(run_on_copy(model.eval(), inputs)).shape[1:])
