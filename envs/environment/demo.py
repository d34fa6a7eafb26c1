"""A problem that needs no files: the demo CNN on the bundled digits."""

import functools
from pathlib import Path

import torch

from ..models import get_model
from ..problem.problem import PruningProblem
from ..recovery.config import RecoveryConfig
from ..recovery.finetuning import finetune
from ..tasks import get_task

_EPOCHS = 5
"""Passes over the digits."""


@functools.cache
def demo_problem() -> PruningProblem:
    """Train the demo CNN for a few seconds, to an accuracy of about 97 %, and build a problem from it."""
    task = get_task("digits", root=Path())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = get_model("demo", num_classes=task.num_outputs, in_channels=task.input_shape[0])
        finetune(model, task, RecoveryConfig.from_scratch(_EPOCHS))
    return PruningProblem.build("demo", model.eval(), task, images=256, statistics_images=256)
