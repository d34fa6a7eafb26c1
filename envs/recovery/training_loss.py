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
from ..tasks.optional_members import distill, training_loss

# Weight of an auxiliary classifier in the loss: Szegedy et al. 2015, arXiv 1409.4842, section 5.
_AUXILIARY_WEIGHT = 0.3


@dataclass(frozen=True)
class StepLoss:
    """Compute the loss of a training step.

    Auxiliary outputs count if they have the shape of the main output. Others, such as those of deep
    supervision at lower resolutions, cannot be compared with the targets.

    Args:
        task: The task that defines the loss.
        teacher: Runs the network to distil from; None trains on the targets alone.
        distillation_weight: Weight of the distillation loss, in [0, 1].
        temperature: Distillation temperature for classification, > 0.
        main_shape: Shape of the main output for one example; see :func:`.main_and_auxiliary`.
    """

    task: Task
    teacher: Callable[[Tensor], Any] | None
    distillation_weight: float
    temperature: float
    main_shape: tuple[int, ...] | None = None

    def __call__(self, model: Callable[[Tensor], Any], inputs: Tensor, targets: Tensor) -> Tensor:
        """Run the network and the teacher and compute the loss."""
        with autocast(inputs.device):
            given = run_on_copy(model, inputs)
        own = training_loss(self.task, given, targets)
        if own is not None and self.teacher is None:
            return own
        outputs, auxiliary = main_and_auxiliary(given, self.main_shape)
        loss = self.task.loss(outputs, targets) if own is None else own
        if self.teacher is not None:
            with torch.no_grad(), autocast(inputs.device):
                teacher_outputs = main_output(run_on_copy(self.teacher, inputs))
            share = self.distillation_weight
            loss = (1 - share) * loss + share * distill(self.task, outputs, teacher_outputs, self.temperature)
        for other in auxiliary if own is None else ():
            if other.shape == outputs.shape:
                loss = loss + _AUXILIARY_WEIGHT * self.task.loss(other, targets)
        return loss


def shape_of_answer(model: nn.Module, inputs: Tensor) -> tuple[int, ...]:
    """Return the shape of the main output for one example in evaluation mode."""
    with restored_modes(model), torch.no_grad(), fixed_randomness(), autocast(inputs.device):
        return tuple(main_output(run_on_copy(model.eval(), inputs)).shape[1:])
