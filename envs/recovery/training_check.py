"""Check that a network can be trained with a task, before anything is decided about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..io.memory import is_out_of_memory
from ..modules.copying import replica
from ..modules.inputs import run_on_copy
from ..modules.modes import restored_modes
from ..modules.outputs import main_and_auxiliary, main_output
from ..modules.randomness import fixed_randomness
from ..modules.structures import tensors_in
from ..tasks.base import Task
from ..tasks.optional_members import batch_size_for, has_training_loss, smoothed_loss
from .config import RecoveryConfig
from .distillation import WithFeatures, compares_features
from .training_loss import StepLoss, shape_of_answer


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
    size = min(2, batch_size_for(task, config.batch_size), task.size("train"))
    inputs, targets = task.batch("train", torch.arange(size))
    if config.label_smoothing:
        _check_smoothing(model, task, config, inputs, targets)
    copied = replica(model).train()
    shape = shape_of_answer(model, inputs)
    teacher = replica(teacher).eval() if teacher is not None and config.recipe.distillation_weight else None
    has_features = teacher is not None and compares_features(config)
    if teacher is not None and has_features:
        copied, teacher = (
            WithFeatures(copied, inputs, "the network"),
            WithFeatures(teacher, inputs, "the teacher"),
        )
    loss = StepLoss(task, teacher, config, shape)
    given: list[Any] = []

    def run(batch: Tensor) -> Any:
        answer = copied(batch)
        given.append(answer[0] if has_features else answer)
        return answer

    try:
        with torch.enable_grad(), fixed_randomness():
            loss(run, inputs, targets).backward()
    except Exception as error:  # the network's and the task's code may raise anything
        if is_out_of_memory(error):
            raise
        raise ValueError(_refusal(task, given, error)) from error
    return () if has_training_loss(task) else _left_out(given[0], shape)


def _check_smoothing(
    model: nn.Module, task: Task, config: RecoveryConfig, inputs: Tensor, targets: Tensor
) -> None:
    """Refuse label smoothing for a task that has no such loss.

    Raises:
        ValueError: If it has none.
    """
    with restored_modes(model), torch.no_grad(), fixed_randomness():
        outputs = main_output(run_on_copy(model.eval(), inputs))
    smoothed_loss(task, outputs, targets, config.label_smoothing)


def _refusal(task: Task, given: Sequence[Any], error: Exception) -> str:
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    answer = f"it gives {_shapes(tensors_in(given[0]))}" if given else "it fails"
    return (
        f"the network cannot be trained with the loss of {task.name}: in training mode {answer} "
        f"({kind}{(str(error).splitlines() or [''])[0]}); give a network that begins with its main output, a "
        "task with training_loss(outputs, targets), which gets all outputs, or no epochs of training"
    )


def _left_out(given: Any, shape: tuple[int, ...]) -> tuple[str, ...]:
    outputs, auxiliary = main_and_auxiliary(given, shape)
    others = [other for other in auxiliary if other.shape != outputs.shape]
    if not others:
        return ()
    return (
        f"In training mode the network also gives outputs of {_shapes(others)} for {len(outputs)} examples: "
        f"the recovery trains without them, as the main output is of {_shapes([outputs])}; a task with "
        "training_loss gets all of them.",
    )


def _shapes(tensors: Sequence[Tensor]) -> str:
    return ", ".join("x".join(map(str, tensor.shape)) or "a number" for tensor in tensors)
