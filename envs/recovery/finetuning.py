"""What happens to the weights after the cut: batch-norm re-estimation, fine-tuning, distillation."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD

from ..modules.cuda_graphs import capture_graph, capture_training_graph
from ..modules.modes import fastest_layout, restored_modes
from ..modules.nonfinite import explain_nonfinite
from ..modules.precision import autocast
from ..tasks.base import Task
from ..tasks.optional_members import batch_size_for
from .checkpoint import Checkpoint, Stopped
from .config import RecoveryConfig
from .training_loss import StepLoss
from .training_state import TrainingState


@dataclass(frozen=True)
class Progress:
    """Where fine-tuning stands.

    Args:
        epoch: The current one, from 1.
        epochs: All of them.
        step: The step inside the epoch, from 1.
        steps: Steps of an epoch.
        loss: Of this step; where an epoch ends, its mean.
        learning_rate: Of this step.
        images_per_second: Since the epoch began.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    learning_rate: float
    images_per_second: float


@dataclass(frozen=True)
class TrainingSummary:
    """What fine-tuning did.

    Args:
        epochs: Finished epochs.
        seconds: Wall-clock time, callbacks included.
        losses: Mean training loss of every epoch.
    """

    epochs: int
    seconds: float
    losses: tuple[float, ...]


def finetune(
    model: nn.Module,
    task: Task,
    config: RecoveryConfig,
    *,
    teacher: nn.Module | None = None,
    checkpoint: Checkpoint | None = None,
    step_loss: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None,
    seed: int = 0,
    on_step: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[Progress], None] | None = None,
) -> TrainingSummary:
    """Train a network in place on the training images; what it is after the last epoch counts.

    The same seed gives the same weights on the same machine, up to cuDNN's choice of kernels on a GPU.
    Batch-norm statistics follow training; torch's generators and the network's modes are left as they were.

    Args:
        model: The network, on the task's device.
        task: Its training images and loss.
        config: How long and how fast.
        teacher: The network whose answers are learned beside the labels, with ``config.distillation_weight``.
        checkpoint: Where the training is kept as it goes on, and goes on from to the same end; None keeps
            nothing. A :class:`.checkpoint.Stopped` that a callback raises is kept too.
        step_loss: Gives the loss of the network on inputs and targets; None takes the task's and the
            teacher's.
        seed: Of the order of images, augmentation and dropout.
        on_step: Called after every step.
        on_epoch: Called after every epoch, with its mean loss; may measure the network.

    Raises:
        FloatingPointError: If the loss or the gradient is no longer finite; the network is as it was before
            the step then.
    """
    size, batch_size = task.size("train"), batch_size_for(task, config.batch_size)
    steps = max(1, size // batch_size)  # a last batch of a few images would spoil batch-norm
    state = TrainingState(model, _optimizer(model, config), config.epochs * steps, seed)
    teacher = teacher if config.distillation_weight else None
    with contextlib.ExitStack() as stack:
        layout = stack.enter_context(_prepared(model, teacher, task))
        stack.enter_context(torch.random.fork_rng())
        if step_loss is None:
            step = _step(model, teacher, task, config, layout)
        else:
            step = functools.partial(step_loss, model)
        stack.enter_context(_kept(state, checkpoint))
        while state.epoch < config.epochs:
            if state.step == 0:
                state.begin_epoch(size)
            seen, began = 0, time.perf_counter()
            for indices in state.order.split(batch_size)[state.step : steps]:
                inputs, targets = task.batch("train", indices, augment=True, generator=state.generator)
                inputs = inputs.contiguous(memory_format=layout)
                when = f"epoch {state.epoch + 1}, step {state.step + 1} of {steps}"
                with explain_nonfinite(
                    model, inputs, when, f"lower the learning rate, now {config.learning_rate}"
                ):
                    loss = step(inputs, targets)
                    value = loss.item()
                    if not math.isfinite(value):
                        raise FloatingPointError(f"the loss became {value}")
                    state.take_step(loss)
                seen += len(indices)
                if checkpoint is not None and checkpoint.due:
                    checkpoint.save(state.snapshot())
                if on_step:
                    speed = seen / (time.perf_counter() - began)
                    rate = state.learning_rate
                    on_step(Progress(state.epoch + 1, config.epochs, state.step, steps, value, rate, speed))
            speed, rate = seen / (time.perf_counter() - began), state.learning_rate
            state.end_epoch()
            if on_epoch:
                on_epoch(Progress(state.epoch, config.epochs, steps, steps, state.losses[-1], rate, speed))
    return TrainingSummary(state.epoch, state.seconds, tuple(state.losses))


@contextlib.contextmanager
def _kept(state: TrainingState, checkpoint: Checkpoint | None) -> Iterator[None]:
    """Go on from a checkpoint; leave one at the end, when stopped, and before a loss that is no number."""
    if checkpoint is None:
        yield
        return
    if (known := checkpoint.load()) is not None:
        state.restore(known)
    try:
        yield
    except (Stopped, FloatingPointError):
        checkpoint.save(state.snapshot())
        raise
    checkpoint.save(state.snapshot())


def _step(
    model: nn.Module,
    teacher: nn.Module | None,
    task: Task,
    config: RecoveryConfig,
    layout: torch.memory_format,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Make the loss of inputs and targets; on a GPU both networks are recordings, where that can be."""
    batch_size = min(batch_size_for(task, config.batch_size), task.size("train"))
    example = task.batch("train", torch.arange(batch_size))[0].contiguous(memory_format=layout)

    def answers(inputs: Tensor) -> Any:
        assert teacher is not None
        with torch.no_grad(), autocast(inputs.device, cache=False):
            return teacher(inputs)

    taught = None if teacher is None else capture_graph(answers, example) or teacher
    loss = StepLoss(task, taught, config.distillation_weight, config.temperature)
    return functools.partial(loss, capture_training_graph(model, example))


def _optimizer(model: nn.Module, config: RecoveryConfig) -> SGD:
    return SGD(
        [weight for weight in model.parameters() if weight.requires_grad],
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=True,
    )


@contextlib.contextmanager
def _prepared(model: nn.Module, teacher: nn.Module | None, task: Task) -> Iterator[torch.memory_format]:
    """Set modes and memory layout for training; put both back: safetensors wants contiguous weights."""
    networks = [network for network in (model, teacher) if network is not None]
    with contextlib.ExitStack() as stack:
        for network in networks:
            stack.enter_context(restored_modes(network))
            network.eval()
        example, _ = task.batch("train", torch.arange(min(2, task.size("train"))))
        layout = torch.channels_last
        try:
            for network in networks:
                _lay_out(network, layout)  # before trying, as weights hand their layout on
                with autocast(example.device):
                    layout = fastest_layout(network, example)
                if layout == torch.contiguous_format:
                    break
            for network in networks:
                _lay_out(network, layout)
            model.train()
            yield layout
        finally:
            for network in networks:
                _lay_out(network, torch.contiguous_format)


def _lay_out(network: nn.Module, layout: torch.memory_format) -> None:
    """Store weights in a layout; ``Module.to`` would leave the strides of axes of length 1 as they were."""
    for weight in network.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.clone(memory_format=layout)
