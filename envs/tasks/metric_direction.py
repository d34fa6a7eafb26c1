"""Find metrics of which a lower value is better; this program takes them the other way round."""

import torch
from torch import Tensor, nn

from ..modules.inputs import run_on_copy
from ..modules.modes import restored_modes
from ..modules.outputs import main_output
from .base import Task
from .optional_members import has_loss, measuring_batch

_IMAGES, _LEAST = 256, 16
"""Examples at most, and at least: scores of few differ by chance."""

_CLEARLY = 1.1
"""How much larger the loss on the wrong targets is if a network has learned something."""


@torch.no_grad()
def score_of_wrong_targets(model: nn.Module, task: Task) -> tuple[float, float] | None:
    """Compare the score of a network with that on the targets of other examples, if those are better.

    Args:
        model: The network, on the task's device.
        task: Data, loss and metric.

    Returns:
        Both scores on some examples of val, if the wrong targets have a larger loss and yet a higher score;
        None if not, or if that cannot be tried.
    """
    count = min(measuring_batch(task, _IMAGES), task.size("val"))
    if count < _LEAST or not has_loss(task):
        return None
    inputs, targets = task.batch("val", torch.arange(count) * task.size("val") // count)
    if not isinstance(targets, Tensor):
        return None
    with restored_modes(model):
        outputs = main_output(run_on_copy(model.eval(), inputs))
    wrong = targets.roll(count // 2, 0)  # not by one, as val may be sorted by class
    try:
        (loss, score), (wrong_loss, wrong_score) = (
            (float(task.loss(outputs, given)), task.metric(task.statistics(outputs, given)))
            for given in (targets, wrong)
        )
    except Exception:  # the user's code need not know what to do with the targets of other examples
        return None
    return (score, wrong_score) if wrong_loss > _CLEARLY * loss and wrong_score > score else None
