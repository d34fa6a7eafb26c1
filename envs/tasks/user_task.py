"""Load a user's task by name, and report every mistake in it in one line before anything runs."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.data import DataLoader, Dataset

from ..io.memory import is_out_of_memory
from ..io.plugins import accepted_arguments, imported_module, nearest_or_all
from ..io.user_code import with_place
from ..modules.inputs import run_on_copy
from ..modules.modes import restored_modes
from ..modules.nonfinite import first_nonfinite
from ..modules.outputs import check_logits, main_output
from .base import SplitName, Task
from .delegation import DelegatingTask
from .joined import with_val_in_train
from .network_loss import measured_loss
from .optional_members import has_loss, has_training_loss
from .passes import Pass, stream
from .target_checks import check_data, check_extremes, float_labels

_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
_MEMBERS = (
    "name",
    "input_shape",
    "num_outputs",
    "notes",
    "size",
    "batch",
    "statistics",
    "metric",
)


def load_user_task(name: str, *, seed: int = 0) -> Task:
    """Load the task that ``package.module:thing`` names.

    Args:
        name: Name of a task, or of a class or function that returns one. It is called with ``seed`` if it has
            that parameter, else without arguments.
        seed: Seed for a task that splits its data itself.

    Raises:
        ValueError: If it cannot be imported or called, or is not a task.
        TypeError: If a member of the task is of the wrong type.
    """
    attribute = name.partition(":")[2]
    with imported_module(name) as module:
        if not hasattr(module, attribute):
            known = nearest_or_all(module, attribute)
            raise ValueError(f"{module.__name__} has no task {attribute!r}{known}")
        thing = getattr(module, attribute)
        if inspect.isclass(thing) or (callable(thing) and _missing(thing)):
            try:
                offered = accepted_arguments(thing, seed=seed)
            except TypeError as error:
                raise ValueError(
                    f"the task {name} cannot be made ({error}): it gets seed where it has that parameter, "
                    "and nothing else"
                ) from error
            with _naming(f"{name} cannot be made"):
                thing = thing(**offered)
        check_task(thing, name)
    return cast(Task, thing)


def check_task(task: Any, name: str = "the task") -> None:
    """Check every member of a task, and two examples of every split.

    Args:
        task: The object to check.
        name: Name of the task in messages.

    Raises:
        ValueError: If a member is missing, fails, or returns wrong values.
        TypeError: If a member is of the wrong type.
    """
    _require_members(task, name)
    shape = task.input_shape
    wholes = isinstance(shape, (tuple, list)) and all(_is_count(side) for side in shape) and len(shape)
    _demand(isinstance(task.name, str), name, "name", task.name, "a str")
    _demand(bool(wholes), name, "input_shape", shape, "a tuple such as (3, 32, 32)")
    _demand(_is_count(task.num_outputs), name, "num_outputs", task.num_outputs, "an int of at least 1")
    sentences = isinstance(task.notes, (tuple, list)) and all(isinstance(note, str) for note in task.notes)
    _demand(sentences, name, "notes", task.notes, "a tuple of str")
    for split in _SPLITS:
        with _naming(f"size({split!r}) of {name} failed"):
            size = task.size(split)
        least = 2 if split == "train" else 1
        _demand(_is_count(size) and size >= least, name, f"size({split!r})", size, f"at least {least}")
        _check_batch(task, name, split, min(2, size))


def check_answers(model: nn.Module, task: Task) -> tuple[str, ...]:
    """Check the loss and the metric on a network's outputs for two examples, and the targets of all splits.

    Args:
        model: The network, on the CPU or the task's device; it is not changed.
        task: A task that passed :func:`check_task`.

    Returns:
        What the user should know of the network's answers, in sentences; often nothing.

    Raises:
        ValueError: If the loss or the metric fails or returns wrong values, inputs or targets are not finite,
            the loss does not take a label, or the network returns probabilities of classes without their
            logits.
        TypeError: If the network, the loss or the metric returns a wrong type.
    """
    inputs, targets = task.batch("train", torch.arange(min(2, task.size("train"))))
    with restored_modes(model), torch.no_grad():
        given = run_on_copy(model.eval(), inputs)
    if has_loss(task):
        notes, statistics = _check_outputs(model, task, inputs, given, targets)
    else:
        notes, statistics = (), _check_network_loss(model, task, inputs, given, targets)
    _demand(isinstance(statistics, Tensor), task.name, "statistics", statistics, "a tensor")
    with _naming(f"the metric of {task.name} failed"):
        metric = task.metric(statistics + statistics)
    number = isinstance(metric, (int, float)) and not isinstance(metric, bool) and not math.isinf(metric)
    _demand(number, task.name, "metric", metric, "a float, percent")
    return notes


def _check_outputs(
    model: nn.Module, task: Task, inputs: Tensor, given: Any, targets: Tensor
) -> tuple[tuple[str, ...], Tensor]:
    """Check the loss of outputs and the statistics; return notes for the user, and the statistics."""
    notes = check_logits(given, classes=not targets.is_floating_point())
    outputs = main_output(given).detach().requires_grad_()
    what = f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}"
    check_data(task, outputs)  # before the loss, as a label out of range ends all work on a GPU
    with _naming(f"the loss of {task.name} failed on {what}"):
        try:
            loss = task.loss(outputs, targets)
        except Exception as error:
            if advice := float_labels(outputs, targets):
                raise ValueError(f"the loss of {task.name} failed on {what}: {advice}") from error
            raise
    _demand_scalar(task, "loss", loss)
    if not bool(torch.isfinite(loss) | torch.isfinite(outputs).all()):
        with restored_modes(model):
            where = first_nonfinite(model.eval(), inputs, precision="fp32")
        raise ValueError(
            f"the network's outputs for the first examples of train are infinite or undefined, {where}; "
            "check the weights, and the scale of the inputs"
        )
    check_extremes(task, outputs)
    with _naming(f"the statistics of {task.name} failed on {what}"):
        statistics = task.statistics(outputs.detach(), targets)
        task.statistics(outputs[:1].detach(), targets[:1])  # the report does this, hours later
    return notes, statistics


def _check_network_loss(model: nn.Module, task: Task, inputs: Tensor, given: Any, targets: Any) -> Tensor:
    """Check a loss that the network computes itself, and the statistics, which are returned."""
    with _naming(f"the training_loss of {task.name} failed"), restored_modes(model), torch.enable_grad():
        loss = measured_loss(task, model.eval(), inputs, targets)
    _demand_scalar(task, "training_loss", loss)
    with _naming(f"the statistics of {task.name} failed on what the network gives back"):
        return task.statistics(given, targets)


def _demand_scalar(task: Task, member: str, loss: object) -> None:
    scalar = isinstance(loss, Tensor) and loss.numel() == 1 and loss.requires_grad
    _demand(scalar, task.name, member, loss, "one differentiable number, a tensor")


def _check_batch(task: Any, name: str, split: SplitName, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    what = f"batch({split!r}, ...) of {name}"
    with _naming(f"{what} failed"):
        batch = task.batch(split, torch.arange(count), augment=split == "train", generator=generator)
    pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    needed = batch[: 2 if has_loss(task) else 1] if pair else ()  # a network's own losses take any targets
    if not pair or not all(isinstance(x, Tensor) for x in needed):
        kinds = f"({', '.join(type(x).__name__ for x in batch)})" if pair else f"a {type(batch).__name__}"
        others = ", or a task with training_loss, which takes any targets" if pair else ""
        raise TypeError(f"{what} gives {kinds}; give a pair of tensors, inputs and targets{others}")
    inputs, targets = batch
    expected = (count, *task.input_shape)
    rows = len(targets) if has_loss(task) else count
    if inputs.dtype != torch.float32 or tuple(inputs.shape) != expected or rows != count:
        given = f"targets of {tuple(targets.shape)}" if has_loss(task) else "targets of its own"
        raise ValueError(
            f"{what} gives inputs of {tuple(inputs.shape)} {str(inputs.dtype).removeprefix('torch.')} and "
            f"{given} for {count} examples; inputs have to be {expected} float32, and targets {count} rows"
        )
    if not bool(torch.isfinite(inputs).all()):
        raise ValueError(f"{what} gives inputs that are infinite or undefined; repair the data")


def _require_members(task: Any, name: str = "the task") -> None:
    if missing := _missing(task):
        raise ValueError(
            f"{name} is no task: {type(task).__name__} has no {', '.join(missing)}; a task has "
            f"{', '.join(_MEMBERS)}, see secateur.envs.tasks.Task, or begin with TensorTask"
        )


def _missing(task: Any) -> list[str]:
    own = ["loss"] if not has_loss(task) and not has_training_loss(task) else []
    return [member for member in _MEMBERS if not hasattr(task, member)] + own


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _demand(held: bool, name: str, member: str, found: Any, wanted: str) -> None:
    if not held:
        text = repr(found)
        given = text if len(text) < 60 and "\n" not in text else f"a {type(found).__name__}"
        raise TypeError(f"{member} of {name} is {given}; it has to be {wanted}")


@contextlib.contextmanager
def _naming(what: str) -> Iterator[None]:
    """Report an error in the user's code in one line; messages of ValueError and OSError pass unchanged."""
    try:
        yield
    except (ValueError, OSError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(f"{what} ({with_place(error)}); --debug shows where") from error


class MovedTask(DelegatingTask):
    """Move the batches of a task to a device one by one, for a task without ``to``.

    Args:
        task: The task.
        device: The network's device.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        super().__init__(task)
        self._device = device

    def batch(self, *given: Any, **named: Any) -> tuple[Tensor, Any]:
        """Return a batch on the device."""
        return self._moved(self._task.batch(*given, **named))

    def loader(self, passed: Pass) -> Iterator[tuple[Tensor, Any]]:
        """Yield the batches of a pass, on the device."""
        yield from (self._moved(batch) for batch in stream(self._task, passed))

    def with_val_in_train(self) -> Task:
        """Return the same task whose train has the examples of val, too."""
        return cast(Task, MovedTask(with_val_in_train(self._task), self._device))

    def _moved(self, batch: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        """Move all tensors of a batch, in lists and dicts too."""
        moved: tuple[Tensor, Any] = tree_map_only(Tensor, lambda x: x.to(self._device), batch)
        return moved


def _advice(given: object) -> str:
    """Say what to give instead of what is often taken for a task; "" for all else."""
    parts = "train=..., val=..., test=..., loss=..., metric=..."
    if isinstance(given, (DataLoader, Dataset)) or type(given).__module__.startswith("datasets."):
        return f"give secateur.envs.tasks.LoaderTask({parts}), whose parts are data sets or data loaders"
    if isinstance(given, (Tensor, tuple, list, dict)):
        return f"give secateur.TensorTask({parts}), whose parts are pairs of tensors: inputs and targets"
    if given is None or isinstance(given, (str, Path)):
        return "give a task, such as secateur.TensorTask"
    return ""


def on_device(task: Task, device: torch.device) -> Task:
    """Return a task with its data, or at least its batches, on a device.

    Raises:
        TypeError: If it is what tasks are made of, such as a data loader, a pair of tensors or a class.
        ValueError: If members of the task are missing.
    """
    if isinstance(task, type):
        raise TypeError(f"the task is the class {task.__name__}; give an object, {task.__name__}(...)")
    if advice := _advice(task):
        raise TypeError(f"the task is {'None' if task is None else type(task).__name__}; {advice}")
    _require_members(task)
    move = getattr(task, "to", None)
    return cast(Task, move(device) if move is not None else MovedTask(task, device))
