"""What a cut network needs before it is trained: new batch-norm statistics, and int8 if that is wanted."""

from __future__ import annotations

from torch import nn

from ..quantization.insertion import quantize_
from ..tasks.base import Task
from .batchnorm import reestimate_batchnorm
from .config import RecoveryConfig


def reestimate_and_quantize(model: nn.Module, task: Task, config: RecoveryConfig, *, seed: int) -> None:
    """Re-estimate batch-norm statistics, then put the network under fake quantisation if that is wanted.

    In this order the ranges are those of the activations under the new statistics. Both are of the images of
    train alone, also where val is trained on later: until then an accuracy on val says something.

    Args:
        model: The network, on the task's device; it is changed in place.
        task: The task, without val in its train.
        config: Settings of the recovery.
        seed: Seed of the choice of images and their augmentation.
    """
    reestimate_batchnorm(model, task, images=config.batchnorm_images, seed=seed)
    if config.quantize:
        quantize_(model, task, seed=seed)
