"""The loss of a training step: targets, distillation, auxiliary heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..modules.inputs import run_on_copy
from ..modules.modes import restored_modes
from ..modules.outputs import main_and_auxiliary, main_output, recorded_outputs
from ..modules.precision import autocast
from ..modules.randomness import fixed_randomness
from ..tasks.base import Task
from ..tasks.optional_members import has_training_loss, smoothed_loss, training_loss
from .config import RecoveryConfig
from .distillation import compare, compares_features

# Weight of an auxiliary classifier in the loss: Szegedy et al. 2015, arXiv 1409.4842, section 5.
_AUXILIARY_WEIGHT = 0.3


@dataclass(frozen=True)
class StepLoss:
    """Compute the loss of a training step.

    Auxiliary outputs count if they have the shape of the main output. Others, such as those of deep
    supervision at lower resolutions, cannot be compared with the targets. A task's own ``training_loss`` gets
    the network instead; its output is distilled if it has the shape of evaluation mode.

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

    def __call__(self, model: Callable[[Tensor], Any], inputs: Tensor, targets: Any) -> Tensor:
        """Run the network and the teacher and compute the loss."""
        precision, smoothing = self.config.precision, self.config.label_smoothing
        if has_training_loss(self.task):
            return self._with_teacher(*self._own(model, inputs, targets), None, inputs)
        with autocast(inputs.device, precision):
            given, features = self._answer(model, inputs)
        outputs, auxiliary = main_and_auxiliary(given, self.main_shape)
        loss = smoothed_loss(self.task, outputs, targets, smoothing)
        loss = self._with_teacher(loss, outputs, features, inputs)
        for other in auxiliary:
            if other.shape == outputs.shape:
                loss = loss + _AUXILIARY_WEIGHT * smoothed_loss(self.task, other, targets, smoothing)
        return loss

    def _own(
        self, model: Callable[[Tensor], Any], inputs: Tensor, targets: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Return the task's own loss, and the main output of the call of the network in it, or None."""
        assert isinstance(model, nn.Module)
        with recorded_outputs(model) as given, autocast(inputs.device, self.config.precision):
            loss = training_loss(self.task, model, inputs.clone(), targets)
        return loss, comparable_output(given, len(inputs), self.main_shape)

    def _answer(self, model: Callable[[Tensor], Any], inputs: Tensor) -> tuple[Any, Tensor | None]:
        """Return a network's outputs, and its features if the distillation compares them."""
        given = run_on_copy(model, inputs)
        return given if self.teacher is not None and compares_features(self.config) else (given, None)

    def _with_teacher(
        self, loss: Tensor, outputs: Tensor | None, features: Tensor | None, inputs: Tensor
    ) -> Tensor:
        """Mix a loss with the distillation, if there is a teacher and an output to compare with its."""
        student = outputs if features is None else features
        if self.teacher is None or student is None:
            return loss
        with torch.no_grad(), autocast(inputs.device, self.config.precision):
            given, features_there = self._answer(self.teacher, inputs)
        teacher = main_output(given) if features_there is None else features_there
        share = self.config.distillation_weight
        return (1 - share) * loss + share * compare(self.task, self.config, student, teacher)


def own_run(task: Task, model: nn.Module, targets: Any) -> Callable[[Tensor], Any] | None:
    """Return how a task's own loss runs the network on a batch with these targets; None if it has none."""
    if not has_training_loss(task):
        return None
    return lambda inputs: training_loss(task, model, inputs, targets)


def comparable_output(given: Sequence[Any], examples: int, shape: tuple[int, ...] | None) -> Tensor | None:
    """Return the main output of a training step that can be compared with a teacher's.

    Args:
        given: What each call of the network in the step gave back.
        examples: Examples of the batch, B.
        shape: Shape of the main output for one example in evaluation mode; None if there is none.

    Returns:
        The main output (B, ...) of the last call; None if there is none of that shape, as of a detector,
        which gives its losses.
    """
    if not given or shape is None:
        return None
    try:
        outputs, _ = main_and_auxiliary(given[-1], shape)
    except TypeError:
        return None
    return outputs if outputs.shape == (examples, *shape) else None


def shape_of_answer(model: nn.Module, inputs: Tensor, task: Task) -> tuple[int, ...] | None:
    """Return the shape of the main output for one example in evaluation mode.

    Args:
        model: The network.
        inputs: A batch.
        task: The task; one without a loss of outputs needs no main output, and the shape may be None.
    """
    with restored_modes(model), torch.no_grad(), fixed_randomness(), autocast(inputs.device):
        given = run_on_copy(model.eval(), inputs)
    try:
        return tuple(main_output(given).shape[1:])
    except TypeError:
        if has_training_loss(task):
            return None
        raise
