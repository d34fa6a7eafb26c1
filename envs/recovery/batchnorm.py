"""Re-estimation of batch-norm statistics after a cut."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..modules.inputs import run_on_copy
from ..modules.modes import fastest_layout, restored_modes
from ..tasks.base import Task
from ..tasks.optional_members import measuring_batch


def reestimate_batchnorm(
    model: nn.Module, task: Task, *, images: int = 2048, batch_size: int = 256, seed: int = 0
) -> None:
    """Replace batch-norm statistics by their averages over batches of training images, in place.

    The images are augmented as in training, so that the statistics match the training distribution (Li et al.
    2020, arXiv 2007.02491). Other modules stay in evaluation mode. Modes and momenta are restored; after an
    error the statistics are restored too.

    Args:
        model: The network, on the task's device.
        task: The task with the training images.
        images: Number of images, at least 0; 0 does nothing.
        batch_size: Approximate images per batch. Batches get equal sizes, because their averages count
            equally.
        seed: Seed for the choice of images and their augmentation.
    """
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    images, batch_size = min(images, task.size("train")), measuring_batch(task, batch_size)
    if not layers or images < 1:
        return
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(task.size("train"), generator=generator)[:images]
    before = [{name: buffer.clone() for name, buffer in layer.named_buffers()} for layer in layers]
    momenta = [layer.momentum for layer in layers]
    with restored_modes(model), torch.no_grad():
        model.eval()
        layout = fastest_layout(model, task.batch("train", chosen[:2])[0])
        finished = False
        try:
            for layer in layers:
                layer.reset_running_stats()
                layer.momentum = None  # None makes PyTorch average over all batches
                layer.train()
            for part in chosen.tensor_split(math.ceil(images / batch_size)):
                inputs, _ = task.batch("train", part, augment=True, generator=generator)
                run_on_copy(model, inputs.contiguous(memory_format=layout))
            finished = True
        finally:
            for layer, momentum, buffers in zip(layers, momenta, before, strict=True):
                layer.momentum = momentum
                # Auxiliary heads do not run in evaluation mode.
                if not finished or layer.num_batches_tracked == 0:
                    layer.load_state_dict(buffers, strict=False)
