"""Co-training: a network trained together with its sub-networks, which share its weights.

The accuracy after a cut predicts the accuracy after recovery poorly. After co-training, the ranking of
sub-networks by accuracy is more like that after recovery (Yu and Huang 2019, "Universally Slimmable
Networks", arXiv 1903.05134; Cai et al. 2020, "Once-for-All", arXiv 1908.09791).

Shapes: L layers, N filters of a layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from secateur.envs.modules.copying import replica
from secateur.envs.modules.outputs import main_output
from secateur.envs.modules.precision import autocast
from secateur.envs.recovery.callbacks import Progress
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.recovery.training_loss import StepLoss
from secateur.envs.surgery.plan import Mask
from secateur.envs.tasks.base import Task
from secateur.envs.tasks.optional_members import distill
from secateur.envs.tracing import TracedNetwork

Draw = Callable[[np.random.Generator], Sequence[Mask]]
"""Function that samples a candidate: one keep mask (N,) per layer."""


def cotrain(
    model: nn.Module,
    network: TracedNetwork,
    task: Task,
    draw: Draw,
    config: RecoveryConfig,
    *,
    seed: int = 0,
    on_step: Callable[[Progress], None] | None = None,
) -> nn.Module:
    """Train a copy of a network together with random sub-networks.

    In each step the whole network learns from the targets and from the dense network, and one sampled
    sub-network learns from the dense network.

    Args:
        model: The dense network, on the task's device; it is not changed.
        network: Its trace.
        task: Task with the training images.
        draw: Samples the sub-network of a step.
        config: Epochs, learning rate and other settings of the training.
        seed: Seed of the sub-networks, the order of images and their augmentation.
        on_step: Called after each step.

    Returns:
        The copy, in evaluation mode. Its batch-norm statistics are of no network in particular.
    """
    student, teacher = replica(model), replica(model).eval()
    loss = StepLoss(task, teacher, config)
    shared = _SharedTask(task, loss, teacher, network, draw, np.random.default_rng(seed))
    finetune(student, cast(Task, shared), config, seed=seed, on_step=on_step)
    return student.eval()


@dataclass(frozen=True)
class _SharedTask:
    """The task with the sum of the losses of the whole network and of a sampled sub-network, as its own."""

    task: Task
    whole: StepLoss
    teacher: nn.Module
    network: TracedNetwork
    draw: Draw
    generator: np.random.Generator

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def training_loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        weights = masked_weights(model, self.network, self.draw(self.generator))
        with torch.autocast(inputs.device.type, enabled=False):  # losses are not computed in it
            with autocast(inputs.device):
                part = main_output(functional_call(model, weights, (inputs,)))
                with torch.no_grad():
                    answers = main_output(self.teacher(inputs))
            sub_loss = distill(self.task, part, answers, self.whole.config.temperature)
            return self.whole(model, inputs, targets) + sub_loss


def masked_weights(model: nn.Module, network: TracedNetwork, masks: Sequence[Mask]) -> dict[str, Tensor]:
    """Return the weights that consume removed channels, by name, with zeros there; the rest has gradients.

    Args:
        model: The dense network.
        network: Its trace.
        masks: One keep mask (N,) per layer.
    """
    parameters = dict(model.named_parameters())
    weights: dict[str, Tensor] = {}
    for layer, mask in zip(network.layers, masks, strict=True):
        for where in layer.slices if not mask.all() else ():
            if where.role == "input_channel" and where.parameter in parameters:
                weight = weights.get(where.parameter, parameters[where.parameter])
                gone = torch.from_numpy(where.index[~mask].ravel()).to(weight.device)
                weights[where.parameter] = weight.index_fill(where.axis, gone, 0.0)
    return weights
