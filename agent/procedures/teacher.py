"""The teacher of the recovery: the dense network, or one of the user's own."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ...envs.io.memory import is_out_of_memory
from ...envs.io.untrusted import first_line
from ...envs.models import is_user_defined
from ...envs.modules.copying import replica
from ...envs.modules.precision import other_precision
from ...envs.modules.usable_weights import check_finite
from ...envs.recovery.config import RecoveryConfig
from ...envs.tasks import Task, measure
from ...envs.tasks.images.dense_checks import SAMPLE
from ...envs.tasks.optional_members import metric_name
from ...envs.tasks.user_task import check_answers
from ..run.progress import log_info
from .loading import build_dense_network, device_of

DENSE = "the dense network"
"""Name of the teacher if none was given."""


@dataclass(frozen=True)
class Teacher:
    """A network whose answers are distilled.

    Args:
        name: Its name, for the report.
        model: The network, in evaluation mode.
    """

    name: str
    model: nn.Module


def load_teacher(name: str | None, weights: str | None, task: Task, seed: int) -> Teacher | None:
    """Build the teacher that was named; None if none was.

    Args:
        name: Name of the network, as for ``secateur prune``.
        weights: A file, or the name of published weights; None for a factory that loads its weights itself.
        task: The task, which sets the numbers of outputs and input channels.
        seed: Seed of random weights, which a factory may keep for some layers.

    Raises:
        ValueError: If weights are given without a network or the other way round, or cannot be loaded.
    """
    if name is None:
        if weights is not None:
            raise ValueError(f"--teacher-weights {weights} are for a teacher; give --teacher MODEL, too")
        return None
    if weights is None and not is_user_defined(name):
        raise ValueError(
            f"the teacher {name} has no weights; give --teacher-weights, a file or published weights such as "
            "DEFAULT"
        )
    model = build_dense_network(name, task, weights, seed)
    return Teacher(name if weights is None else f"{name} ({weights})", model)


def check_teacher(teacher: Teacher, task: Task, config: RecoveryConfig) -> Teacher:
    """Check that a teacher of the user's own answers as the task needs it, and say how good it is on val.

    Args:
        teacher: The teacher.
        task: The task.
        config: Settings of the recovery.

    Returns:
        The teacher on the task's device, in evaluation mode; a copy if it is the user's.

    Raises:
        ValueError: If its outputs are not those of the task, or it is not used.
    """
    if not isinstance(teacher.model, nn.Module):
        raise TypeError(f"the teacher is {type(teacher.model).__name__}; give an nn.Module")
    if not config.distillation_weight or not config.recipe.epochs:
        option = "epochs" if not config.recipe.epochs else "distillation_weight"
        raise ValueError(f"a teacher is not used with {option} 0; leave one of them out")
    try:
        check_finite(teacher.model)
        model = replica(teacher.model).to(device_of(task)).eval()
        check_answers(model, task)
    except Exception as error:  # the network's code may raise anything
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"the teacher {teacher.name} does not answer as {task.name} needs it, with {task.num_outputs} "
            f"outputs: {first_line(error)}{other_precision(teacher.model)}"
        ) from error
    accuracy = measure(model, task, "val", limit=SAMPLE).accuracy
    log_info(f"teacher {teacher.name}: {metric_name(task)} {accuracy:.2f} % on val")
    return Teacher(teacher.name, model)


def teacher_for(teacher: Teacher | None, dense: nn.Module, config: RecoveryConfig) -> Teacher | None:
    """Return the teacher of a recovery: the given one, else a copy of the dense network; None without one."""
    if not config.distillation_weight:
        return None
    return teacher or Teacher(DENSE, replica(dense))
