"""Fine-tuning after the cut, with optional distillation."""

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
from torch.optim import SGD, AdamW, Optimizer

from ..modules.cuda_graphs import capture_graph, capture_training_graph
from ..modules.modes import fastest_layout, restored_modes
from ..modules.nonfinite import explain_nonfinite
from ..modules.precision import autocast
from ..modules.ranks import in_unison, rank, ranks
from ..tasks.base import Task
from ..tasks.optional_members import batch_size_for
from ..tasks.passes import DataError, Pass, stream
from .checkpoint import Checkpoint, Stopped
from .config import RecoveryConfig
from .data_parallel import SharedStep, synchronised_batchnorm
from .training_loss import StepLoss, shape_of_answer
from .training_state import TrainingState


@dataclass(frozen=True)
class Progress:
    """The progress of fine-tuning.

    Args:
        epoch: Current epoch, from 1.
        epochs: Number of epochs.
        step: Current step of the epoch, from 1.
        steps: Steps per epoch.
        loss: Training loss of this step; at the end of an epoch, its mean.
        learning_rate: Learning rate of this step.
        images_per_second: Training speed since the epoch began.
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
    """A summary of fine-tuning.

    Args:
        epochs: Finished epochs.
        seconds: Wall-clock time, callbacks included.
        losses: Mean training loss of each epoch.
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
    """Train a network in place on the training images; the weights after the last epoch are final.

    The same seed gives the same weights on the same machine, up to cuDNN's choice of kernels on a GPU. Under
    torchrun every rank trains on its share of each batch; see :mod:`.data_parallel`.
    Training updates batch-norm statistics. torch's random generators and the network's modes are restored.

    Args:
        model: The network, on the task's device.
        task: The task with the training images and the loss.
        config: Settings of the training.
        teacher: Network whose outputs are distilled with ``config.distillation_weight``, or None.
        checkpoint: Where the state of the training is saved. An existing state is resumed, to the same
            result. A :class:`.checkpoint.Stopped` raised by a callback is saved too. None saves nothing.
        step_loss: Computes the loss from network, inputs and targets; None takes the task's loss and the
            distillation.
        seed: Seed for the order of images, augmentation and dropout.
        on_step: Called after every step.
        on_epoch: Called after every epoch, with its mean loss; may measure the network.

    Raises:
        FloatingPointError: If the loss or the gradient is not finite. The network is then as it was before
            the step.
        DataError: If the data cannot be read; the training can be resumed.
    """
    size, batch_size = task.size("train"), batch_size_for(task, config.batch_size)
    steps = max(1, size // batch_size)  # the last, smaller batch is dropped: it would disturb batch-norm
    state = TrainingState(model, make_optimizer(model, config), config.epochs * steps, seed)
    teacher = teacher if config.distillation_weight else None
    with contextlib.ExitStack() as stack:
        layout = stack.enter_context(training_setup(model, teacher, task))
        stack.enter_context(torch.random.fork_rng())
        if step_loss is None:
            step = make_step(model, teacher, task, config, layout)
        else:
            step = functools.partial(step_loss, model)
        stack.enter_context(_resumable(state, checkpoint))
        stack.enter_context(synchronised_batchnorm(model))
        shared_step = SharedStep(model, step)
        while state.epoch < config.epochs:
            seen, began = 0, time.perf_counter()
            batches = state.order(size).split(batch_size)[:steps]
            passed = Pass(
                "train", batches, augment=True, seed=seed, epoch=state.epoch, first=state.step,
                rank=rank(), ranks=ranks(),
            )  # fmt: skip
            read = in_unison(stream(task, passed))
            for weight, indices, (inputs, targets) in zip(
                passed.weights, batches[state.step :], read, strict=True
            ):
                inputs = inputs.contiguous(memory_format=layout)
                when = f"epoch {state.epoch + 1}, step {state.step + 1} of {steps}"
                with explain_nonfinite(
                    model, inputs, when, f"lower the learning rate, now {config.peak_learning_rate}"
                ):
                    state.begin_step()
                    loss = shared_step(inputs, targets, weight)
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
            shared_step.share_buffers()
            if on_epoch:
                on_epoch(Progress(state.epoch, config.epochs, steps, steps, state.losses[-1], rate, speed))
    return TrainingSummary(state.epoch, state.seconds, tuple(state.losses))


@contextlib.contextmanager
def _resumable(state: TrainingState, checkpoint: Checkpoint | None) -> Iterator[None]:
    """Resume from a checkpoint; save one at the end, when stopped, and on errors that may be mended."""
    if checkpoint is None:
        yield
        return
    if (snapshot := checkpoint.load()) is not None:
        state.restore(snapshot)
    try:
        yield
    except (Stopped, FloatingPointError, DataError):
        checkpoint.save(state.snapshot())
        raise
    checkpoint.save(state.snapshot())


def make_step(
    model: nn.Module,
    teacher: nn.Module | None,
    task: Task,
    config: RecoveryConfig,
    layout: torch.memory_format,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Build the function from inputs and targets to the loss; on a GPU with CUDA graphs where possible.

    Several ranks do without graphs, as DistributedDataParallel has to see the backward pass.
    """
    batch_size = min(batch_size_for(task, config.batch_size), task.size("train"))
    example = task.batch("train", torch.arange(batch_size))[0].contiguous(memory_format=layout)

    def run_teacher(inputs: Tensor) -> Any:
        assert teacher is not None
        with torch.no_grad(), autocast(inputs.device, cache=False):
            return teacher(inputs)

    shape = shape_of_answer(model, example[:2])
    is_shared = ranks() > 1
    fast_teacher: Callable[..., Any] | None = teacher
    if teacher is not None and not is_shared:
        fast_teacher = capture_graph(run_teacher, example) or teacher
    loss = StepLoss(task, fast_teacher, config.distillation_weight, config.temperature, shape)
    return functools.partial(loss, model if is_shared else capture_training_graph(model, example))


def make_optimizer(model: nn.Module, config: RecoveryConfig) -> Optimizer:
    """Create the optimiser of a training, with the largest learning rate of its schedule."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    rate, decay = config.peak_learning_rate, config.weight_decay
    if config.optimiser == "adamw":
        return AdamW(weights, lr=rate, betas=(config.momentum, 0.999), weight_decay=decay)
    return SGD(weights, lr=rate, momentum=config.momentum, weight_decay=decay, nesterov=True)


@contextlib.contextmanager
def training_setup(model: nn.Module, teacher: nn.Module | None, task: Task) -> Iterator[torch.memory_format]:
    """Set modes and memory layout for training; restore both, as safetensors needs contiguous weights."""
    networks = [network for network in (model, teacher) if network is not None]
    with contextlib.ExitStack() as stack:
        for network in networks:
            stack.enter_context(restored_modes(network))
            network.eval()
        example, _ = task.batch("train", torch.arange(min(2, task.size("train"))))
        layout = torch.channels_last
        try:
            for network in networks:
                _set_layout(
                    network, layout
                )  # before the trial pass, as outputs take over the weights' layout
                with autocast(example.device):
                    layout = fastest_layout(network, example)
                if layout == torch.contiguous_format:
                    break
            for network in networks:
                _set_layout(network, layout)
            model.train()
            yield layout
        finally:
            for network in networks:
                _set_layout(network, torch.contiguous_format)


def _set_layout(network: nn.Module, layout: torch.memory_format) -> None:
    """Store weights in a memory layout; ``Module.to`` does not change the strides of axes of length 1."""
    for weight in network.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.clone(memory_format=layout)
