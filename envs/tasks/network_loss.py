"""Tasks without a loss of outputs: the network computes its losses itself, as detectors do.

Such a task has ``training_loss(model, inputs, targets)`` instead of ``loss(outputs, targets)``. Its
statistics are of all that the network gives back in evaluation mode, such as the boxes of each image.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..modules.inputs import run_on_copy
from ..modules.modes import restored_modes
from ..modules.outputs import main_output
from ..modules.randomness import fixed_randomness
from .base import Task
from .optional_members import has_loss, training_loss


def outputs_for(task: Task, given: Any) -> Any:
    """Return what a task's statistics take of what a network gives back in evaluation mode.

    Args:
        task: The task.
        given: All that the network gives back.

    Returns:
        The main output (B, ...) as float32; all of it if the task has no loss of outputs.
    """
    return main_output(given) if has_loss(task) else given


def measured_loss(
    task: Task, model: nn.Module, inputs: Tensor, targets: Any, outputs: Tensor | None = None
) -> Tensor:
    """Compute the loss of a batch for measuring, not for training.

    Args:
        task: The task.
        model: The network in evaluation mode.
        inputs: The batch (B, ...).
        targets: The targets of the batch.
        outputs: The main output for it, if the network has run; None runs it.
    """
    if not has_loss(task):
        return _network_loss(task, model, inputs, targets)
    return task.loss(main_output(run_on_copy(model, inputs)) if outputs is None else outputs, targets)


def _network_loss(task: Task, model: nn.Module, inputs: Tensor, targets: Any) -> Tensor:
    """Compute the network's own loss, with norms and dropout as in evaluation, and the same draws each time.

    A network gives its losses in training mode alone. Modules without others inside stay as they are: norms
    keep their statistics, and no neuron is dropped.
    """
    with restored_modes(model), fixed_randomness(device=inputs.device):
        for module in model.modules():
            module.training = module is model or next(module.children(), None) is not None
        return training_loss(task, model, inputs.clone(), targets)
