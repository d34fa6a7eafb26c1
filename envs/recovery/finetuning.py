"""Fine-tuning after the cut, with optional distillation."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ..modules.compilation import compiled_for_training
from ..modules.cuda_graphs import capture_graph, capture_training_graph
from ..modules.modes import fastest_layout, restored_modes
from ..modules.nonfinite import explain_nonfinite
from ..modules.precision import autocast
from ..modules.ranks import in_unison, rank, ranks
from ..modules.weight_masks import masked_each_pass
from ..tasks.base import Task
from ..tasks.measuring import measure
from ..tasks.optional_members import has_training_loss
from ..tasks.passes import DataError, Pass, stream
from .batching import Batching
from .callbacks import Callback, wants_end
from .checkpoint import Checkpoint, Stopped
from .config import RecoveryConfig
from .data_parallel import SharedStep, synchronised_batchnorm
from .distillation import WithFeatures, compares_features
from .training_loss import StepLoss, own_run, shape_of_answer
from .training_state import TrainingState


@dataclass(frozen=True)
class TrainingSummary:
    """A summary of fine-tuning.

    Args:
        epochs: Finished epochs.
        seconds: Wall-clock time, callbacks included.
        losses: Mean training loss of each epoch.
        stopped: When a callback ended it, such as ``epoch 3, step 5 of 20``; "" if none did.
    """

    epochs: int
    seconds: float
    losses: tuple[float, ...]
    stopped: str = ""


def finetune(
    model: nn.Module,
    task: Task,
    config: RecoveryConfig,
    *,
    teacher: nn.Module | None = None,
    checkpoint: Checkpoint | None = None,
    seed: int = 0,
    steps: int | None = None,
    val_images: int = 0,
    on_step: Callback | None = None,
    on_epoch: Callback | None = None,
) -> TrainingSummary:
    """Train a network in place on the training images; the weights after the last epoch are final.

    With ``config.ema_decay`` their average over the steps is final: re-estimate batch-norm statistics then.
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
        seed: Seed for the order of images, augmentation and dropout.
        steps: Steps of the whole training, at least 1, in which the learning rate takes its whole course;
            None takes those of ``config.epochs``.
        val_images: Images of val on which the network is measured after each epoch, for the callbacks; 0
            does not measure.
        on_step: Called after every step; returns True to end the training with the weights of that moment.
            What it changes in the network's parameters and buffers, such as masks, is part of the checkpoint.
        on_epoch: The same after every epoch, with its mean loss; may measure the network.

    Raises:
        FloatingPointError: If the loss or the gradient is not finite. The network is then as it was before
            the step.
        DataError: If the data cannot be read; the training can be resumed.
    """
    recipe, batching, size = config.recipe, Batching.of(task, config), task.size("train")
    total = recipe.epochs * batching.steps if steps is None else steps
    epochs = -(-total // batching.steps)  # rounded up
    state = TrainingState(model, config, total, seed)
    teacher = teacher if config.distillation_weight else None

    def explained(inputs: Tensor, targets: Any, when: str) -> contextlib.AbstractContextManager[None]:
        advice = f"lower the learning rate, now {recipe.learning_rate}"
        return explain_nonfinite(model, inputs, when, advice, own_run(task, model, targets), config.precision)

    with contextlib.ExitStack() as stack:
        layout = stack.enter_context(training_setup(model, teacher, task))
        stack.enter_context(torch.random.fork_rng())
        stack.enter_context(masked_each_pass(model))
        step = make_step(model, teacher, task, config, layout)
        stack.enter_context(_resumable(state, checkpoint))
        stack.enter_context(synchronised_batchnorm(model))
        shared_step = SharedStep(model, step)
        while state.epoch < epochs and not state.stopped:
            seen, began, speed = 0, time.perf_counter(), 0.0
            last = min(batching.steps, total - state.epoch * batching.steps)
            passed = Pass(
                "train", batching.of_epoch(state.order(size), last), augment=True, seed=seed,
                epoch=state.epoch, first=state.step * batching.passes, rank=rank(), ranks=ranks(),
            )  # fmt: skip
            batches = ((inputs.contiguous(memory_format=layout), y) for inputs, y in stream(task, passed))
            read = zip(passed.weights, in_unison(batches), strict=True)
            while state.step < last and not state.stopped:
                when = f"epoch {state.epoch + 1}, step {state.step + 1} of {last}"
                passes = islice(read, batching.passes)
                _take_step(state, shared_step, list(passes), functools.partial(explained, when=when))
                seen += batching.images_per_step
                speed = seen / (time.perf_counter() - began)
                with restored_modes(model):  # a callback may run the network in evaluation mode
                    if wants_end(on_step, state.progress(epochs, batching.steps, speed)):
                        state.stopped = when
                if checkpoint is not None and checkpoint.due:  # with the masks that the callback changed
                    checkpoint.save(state.snapshot())
            shared_step.share_buffers()
            if state.step < last:
                break
            state.end_epoch(_val_accuracy(model, task, val_images))
            with restored_modes(model):
                is_over = wants_end(on_epoch, state.progress(epochs, batching.steps, speed))
            if is_over and not state.stopped:
                state.stopped = f"epoch {state.epoch}"
        state.keep_average()
        shared_step.share_buffers()
    return TrainingSummary(state.epoch, state.seconds, tuple(state.losses), state.stopped)


def _take_step(
    state: TrainingState,
    step: SharedStep,
    passes: Sequence[tuple[float, tuple[Tensor, Any]]],
    explained: Callable[[Tensor, Any], contextlib.AbstractContextManager[None]],
) -> None:
    """Add up the gradients of the passes of a step, and take it."""
    state.begin_step()
    for number, (weight, (inputs, targets)) in enumerate(passes, start=1):
        is_last = number == len(passes)
        with explained(inputs, targets), step.exchanges(is_last):
            state.add(step(inputs, targets, weight) / len(passes))
            if is_last:
                state.take_step()


def _val_accuracy(model: nn.Module, task: Task, images: int) -> float | None:
    return measure(model, task, "val", limit=images).accuracy if images else None


@contextlib.contextmanager
def _resumable(state: TrainingState, checkpoint: Checkpoint | None) -> Iterator[None]:
    """Resume from a checkpoint; save one at the end, when stopped, and on errors that may be mended."""
    snapshot = checkpoint.load() if checkpoint is not None else None
    if snapshot is not None:
        state.restore(snapshot)
    try:
        yield
    except (Stopped, FloatingPointError, DataError):
        state.abandon_step()
        if checkpoint is not None:
            checkpoint.save(state.snapshot())
        raise
    if checkpoint is not None:
        checkpoint.save(state.snapshot())


def make_step(
    model: nn.Module,
    teacher: nn.Module | None,
    task: Task,
    config: RecoveryConfig,
    layout: torch.memory_format,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Build the function from inputs and targets to the loss; compiled, or on a GPU with CUDA graphs.

    Several ranks do without graphs, as DistributedDataParallel has to see the backward pass.
    """
    count = min(Batching.of(task, config).images, task.size("train"))
    example = task.batch("train", torch.arange(count))[0].contiguous(memory_format=layout)
    shape = shape_of_answer(model, example[:2], task)
    if teacher is not None and compares_features(config):
        model = WithFeatures(model, example[:2], "the network")
        teacher = WithFeatures(teacher, example[:2], "the teacher")

    def run_teacher(inputs: Tensor) -> Any:
        assert teacher is not None
        with torch.no_grad(), autocast(inputs.device, config.precision, cache=False):
            return teacher(inputs)

    is_shared = ranks() > 1
    fast_teacher: Callable[..., Any] | None = teacher
    if teacher is not None and not is_shared:
        fast_teacher = capture_graph(run_teacher, example) or teacher
    loss = StepLoss(task, fast_teacher, config, shape)
    if config.compile and not has_training_loss(task):
        return functools.partial(loss, compiled_for_training(model, example, config.precision))
    if is_shared or has_training_loss(task):  # the latter calls the network as it likes: no graph foresees it
        return functools.partial(loss, model)
    return functools.partial(loss, capture_training_graph(model, example, config.precision))


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
