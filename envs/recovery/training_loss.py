"""The loss of a training step: targets, distillation, auxiliary heads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..modules.inputs import run_on_copy
from ..modules.outputs import main_and_auxiliary, main_output
from ..modules.precision import autocast
from ..tasks.base import Task
from ..tasks.optional_members import distill

# Weight of an auxiliary classifier in the loss: Szegedy et al. 2015, arXiv 1409.4842, section 5.
_AUXILIARY_WEIGHT = 0.3


@dataclass(frozen=True)
class StepLoss:
    """Compute the loss of a training step.

    Args:
        task: The task that defines the loss.
        teacher: Runs the network to distil from; None trains on the targets alone.
        distillation_weight: Weight of the distillation loss, in [0, 1].
        temperature: Distillation temperature for classification, > 0.
    """

    task: Task
    teacher: Callable[[Tensor], Any] | None
    distillation_weight: float
    temperature: float

    def __call__(self, model: Callable[[Tensor], Any], inputs: Tensor, targets: Tensor) -> Tensor:
        """Run the network and the teacher and compute the loss."""
        with autocast(inputs.device):
            outputs, auxiliary = main_and_auxiliary(run_on_copy(model, inputs))
        loss = self.task.loss(outputs, targets)
        if self.teacher is not None:
            with torch.no_grad(), autocast(inputs.device):
                teacher_outputs = main_output(run_on_copy(self.teacher, inputs))
            share = self.distillation_weight
            loss = (1 - share) * loss + share * distill(self.task, outputs, teacher_outputs, self.temperature)
        for auxiliary_outputs in auxiliary:
            loss = loss + _AUXILIARY_WEIGHT * self.task.loss(auxiliary_outputs, targets)
        return loss
