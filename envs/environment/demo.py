"""A problem that needs no files: the demo CNN on the bundled digits."""

import functools
from pathlib import Path

import torch

from ..models import get_model
from ..problem.problem import PruningProblem
from ..recovery.config import RecoveryConfig
from ..recovery.finetuning import finetune
from ..tasks import get_task


@functools.cache
def demo_problem(epochs: int = 5, seed: int = 0) -> PruningProblem:
    """Train the demo CNN for a few seconds and build a problem from it.

    Args:
        epochs: Passes over the digits; five give an accuracy of about 97 %.
        seed: Seed for weights, data and order.
    """
    task = get_task("digits", root=Path(), seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = get_model("demo", num_classes=task.num_outputs, in_channels=task.input_shape[0])
        finetune(model, task, RecoveryConfig.from_scratch(epochs), seed=seed)
    return PruningProblem.build("demo", model.eval(), task, images=256, statistics_images=256)
