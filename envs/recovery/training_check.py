"""Check that a network can be trained with a task, before anything is decided about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..io.memory import is_out_of_memory
from ..io.untrusted import first_line
from ..modules.copying import replica
from ..modules.inputs import run_on_copy
from ..modules.modes import restored_modes
from ..modules.outputs import main_and_auxiliary, main_output, recorded_outputs
from ..modules.precision import other_precision
from ..modules.randomness import fixed_randomness
from ..modules.ranks import ranks
from ..modules.structures import tensors_in
from ..modules.usable_weights import check_finite
from ..tasks.base import Task
from ..tasks.optional_members import batch_size_for, has_training_loss, no_smoothing, smoothed_loss
from .batching import Batching
from .config import RecoveryConfig
from .distillation import WithFeatures, compares_features
from .training_loss import StepLoss, comparable_output, shape_of_answer

NO_TEACHER = (
    "In training mode the network gives its losses, not an output of the shape of evaluation mode: the "
    "recovery trains without a teacher."
)


def check_training(
    model: nn.Module, task: Task, config: RecoveryConfig, teacher: nn.Module | None
) -> tuple[str, ...]:
    """Try a training step on two examples with a copy of a network: it may answer otherwise in training mode.

    Args:
        model: The network, on the task's device; it is not changed.
        task: The task that defines the loss.
        config: Settings of the training.
        teacher: Network whose outputs are distilled with ``config.distillation_weight``, or None.

    Returns:
        What the user should know, in sentences; often nothing.

    Raises:
        ValueError: If the network cannot be trained so.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            "the network cannot be trained, as all its parameters are frozen; call "
            "model.requires_grad_(True), or give no epochs of training"
        )
    if teacher is not None and config.distillation_weight:
        _check_usable(teacher)
    size = min(2, batch_size_for(task, config.batch_size), task.size("train"))
    inputs, targets = task.batch("train", torch.arange(size))
    if config.label_smoothing:
        _check_smoothing(model, task, config, inputs, targets)
    copied = replica(model).train()
    shape = shape_of_answer(model, inputs, task)
    teacher = replica(teacher).eval() if teacher is not None and config.distillation_weight else None
    if teacher is not None:
        _check_teacher(teacher, inputs, shape)
    runs: nn.Module = copied
    if teacher is not None and compares_features(config):
        if has_training_loss(task):
            raise ValueError(
                f"{task.name} trains with the network itself, so its features are not compared; give "
                "--distillation soft-targets or logits"
            )
        runs = WithFeatures(copied, inputs, "the network")
        teacher = WithFeatures(teacher, inputs, "the teacher")
    loss = StepLoss(task, teacher, config, shape)
    _check_shares(model, task, config)
    try:
        with torch.enable_grad(), fixed_randomness(), recorded_outputs(copied) as given:
            loss(runs, inputs, targets).backward()
    except Exception as error:  # the network's and the task's code may raise anything
        if is_out_of_memory(error):
            raise
        raise ValueError(_refusal(task, given, error)) from error
    if not has_training_loss(task):
        return _left_out(given[0], shape)
    compared = teacher is None or comparable_output(given, size, shape) is not None
    return () if compared else (NO_TEACHER,)


def _check_shares(model: nn.Module, task: Task, config: RecoveryConfig) -> None:
    """Refuse batches of which a rank gets a single example: batch-norm cannot normalise it.

    Raises:
        ValueError: If a rank does.
    """
    images = Batching.of(task, config).images
    has_norms = any(isinstance(module, _BatchNorm) for module in model.modules())
    if ranks() > 1 and has_norms and images // ranks() < 2:
        raise ValueError(
            f"{ranks()} processes share batches of {images} images, and batch-norm needs two in each; give a "
            f"batch size of at least {2 * ranks()}, or fewer processes"
        )


def _check_usable(teacher: nn.Module) -> None:
    """Refuse a teacher without values, or with some that are no numbers.

    Raises:
        ValueError: If it is one.
        TypeError: If it is no network.
    """
    if not isinstance(teacher, nn.Module):
        raise TypeError(f"the teacher is {type(teacher).__name__}; give an nn.Module")
    try:
        check_finite(teacher)
    except ValueError as error:
        raise ValueError(f"the teacher cannot be used: {error}") from error


def _check_teacher(teacher: nn.Module, inputs: Tensor, shape: tuple[int, ...] | None) -> None:
    """Refuse a teacher whose outputs cannot be compared with the network's; they would be broadcast.

    Raises:
        ValueError: If it does not run, or its outputs have another shape.
    """
    try:
        with torch.no_grad(), fixed_randomness():
            found = tuple(main_output(run_on_copy(teacher, inputs)).shape[1:])
    except TypeError:  # it gives no output, as a detector
        return
    except Exception as error:  # its code may raise anything
        if is_out_of_memory(error):
            raise
        advice = other_precision(teacher)
        raise ValueError(f"the teacher does not run on the data: {first_line(error)}{advice}") from error
    if shape is not None and found != shape:
        raise ValueError(
            f"the teacher gives outputs of {_size(found)} for an example, the network of {_size(shape)}; "
            "give a teacher with the network's outputs"
        )


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"


def _check_smoothing(
    model: nn.Module, task: Task, config: RecoveryConfig, inputs: Tensor, targets: Tensor
) -> None:
    """Refuse label smoothing for a task that has no such loss.

    Raises:
        ValueError: If it has none.
    """
    if has_training_loss(task):
        raise ValueError(no_smoothing(task.name))
    with restored_modes(model), torch.no_grad(), fixed_randomness():
        outputs = main_output(run_on_copy(model.eval(), inputs))
    smoothed_loss(task, outputs, targets, config.label_smoothing)


def _refusal(task: Task, given: Sequence[Any], error: Exception) -> str:
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    answer = f"it gives {_shapes(tensors_in(given[0]))}" if given else "it fails"
    return (
        f"the network cannot be trained with the loss of {task.name}: in training mode {answer} "
        f"({kind}{(str(error).splitlines() or [''])[0]}); give a network that begins with its main output, a "
        "task with training_loss(model, inputs, targets), which runs the network itself, or no epochs of "
        "training"
    )


def _left_out(given: Any, shape: tuple[int, ...] | None) -> tuple[str, ...]:
    outputs, auxiliary = main_and_auxiliary(given, shape)
    others = [other for other in auxiliary if other.shape != outputs.shape]
    if not others:
        return ()
    return (
        f"In training mode the network also gives outputs of {_shapes(others)} for {len(outputs)} examples: "
        f"the recovery trains without them, as the main output is of {_shapes([outputs])}; a task with "
        "training_loss runs the network itself, and gets all of them.",
    )


def _shapes(tensors: Sequence[Tensor]) -> str:
    return ", ".join("x".join(map(str, tensor.shape)) or "a number" for tensor in tensors)
