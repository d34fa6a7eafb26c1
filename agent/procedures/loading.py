"""Loading of tasks and dense networks by name."""

import contextlib
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...envs.io.memory import is_out_of_memory
from ...envs.io.suggestions import unknown_name
from ...envs.io.tensor_files import write_tensors
from ...envs.io.untrusted import first_line
from ...envs.io.wording import counted
from ...envs.models import get_model
from ...envs.modules.precision import other_precision
from ...envs.modules.process_group import local_rank
from ...envs.modules.ranks import one_first, ranks
from ...envs.modules.usable_weights import check_usable
from ...envs.recovery.config import RecoveryConfig
from ...envs.recovery.finetuning import finetune
from ...envs.recovery.step_time import training_seconds
from ...envs.tasks import SegmentationTask, Task, get_task, load_segmentation, measure
from ...envs.tasks.optional_members import metric_name
from ...envs.tasks.user_task import check_answers, load_user_task, on_device
from ..run.folder import RunFolder
from ..run.progress import estimated_duration, log_info
from ..run.recovery_monitor import RecoveryMonitor
from .data_config import (
    OF_ANY_TASK,
    SEGMENTATION,
    TASKS,
    DataConfig,
    is_own_task,
    refuse_data_option,
)


def device(name: str = "auto") -> torch.device:
    """Return a device.

    Args:
        name: "cpu", "cuda", "cuda:1", or "auto" for the GPU if there is one, else the CPU. Of the processes
            that torchrun starts, each has its own GPU.

    Raises:
        ValueError: If the name is unknown or there is no such GPU.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if ranks() > 1 and gpus and name in ("auto", "cuda"):
        name = f"cuda:{local_rank()}"
    if name == "auto":
        return torch.device("cuda" if gpus else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError(unknown_name("device", name, ("auto", "cpu", "cuda")))
    found = torch.device(name)
    if found.type == "cuda" and (found.index or 0) >= gpus:
        raise ValueError(f"there is no device {name}: torch finds {gpus} GPUs here; give auto or cpu")
    return found


def device_of(task: Task) -> torch.device:
    """Return the device of a task's data."""
    inputs, _ = task.batch("train", torch.zeros(1, dtype=torch.int64))
    return inputs.device


def load_task(config: DataConfig, seed: int) -> Task:
    """Load a task and its data onto the device.

    Args:
        config: The data options.
        seed: Seed of the split into train and val.

    Raises:
        ValueError: If the task or the data are unknown, missing or unreadable, or options exclude each other.
        TypeError: If a member of a user-defined task has the wrong type.
    """
    place = device(config.device)
    if is_user_task(config):
        others = (f.name for f in fields(config) if f.name not in OF_ANY_TASK)
        if flag := _first_changed(config, *others):
            refuse_data_option(config.task, flag)
        return on_device(load_user_task(config.task, seed=seed), place)
    if config.task not in TASKS:
        raise ValueError(unknown_name("task", config.task, (*TASKS, "package.module:Task")))
    if config.task == SEGMENTATION:
        return _segmentation(config, seed, place)
    if flag := _first_changed(config, "ignore_label", "balance_classes"):
        raise ValueError(f"{flag} is for --task segmentation only; leave it out, or give --task segmentation")
    with one_first() if config.download else contextlib.nullcontext():
        return get_task(
            config.data,
            root=config.data_root,
            download=config.download,
            **_reading(config, seed, place),
        )


def _reading(config: DataConfig, seed: int, place: torch.device) -> dict[str, Any]:
    """Return the options that images of both tasks share, as keywords."""
    return {
        "val_from": config.val_from,
        "seed": seed,
        "normalisation": config.normalisation,
        "image_size": config.image_size,
        "channels": config.channels,
        "augment": config.augment,
        "train_transform": config.train_transform,
        "eval_transform": config.eval_transform,
        "in_memory": config.in_memory,
        "workers": config.workers,
        "device": place,
    }


def is_user_task(config: DataConfig) -> bool:
    """Return whether the task is a user's own, with its own data."""
    return is_own_task(config.task)


def _first_changed(config: DataConfig, *names: str) -> str | None:
    """Return the flag of the first of some options that differs from its default; None if none does."""
    default = DataConfig()
    changed = (name for name in names if getattr(config, name) != getattr(default, name))
    return next((f"--{name.replace('_', '-')}" for name in changed), None)


def _segmentation(config: DataConfig, seed: int, place: torch.device) -> SegmentationTask:
    if not Path(config.data).is_dir():
        raise ValueError(
            f"there is no folder {config.data!r}; --task segmentation needs --data FOLDER with "
            "train/images/*.jpg and train/masks/*.png"
        )
    return load_segmentation(
        Path(config.data),
        ignore_label=config.ignore_label,
        balance=config.balance_classes,
        **_reading(config, seed, place),
    )


def build_dense_network(name: str, task: Task, weights: str | None, seed: int) -> nn.Module:
    """Build a network for a task, with given or random weights, in evaluation mode.

    Args:
        name: Name of the network, as for :func:`secateur.envs.models.get_model`.
        task: The task, which sets the numbers of outputs and input channels.
        weights: A file or the name of published weights; None initialises at random.
        seed: Seed of random weights.

    Raises:
        ValueError: If the network or the weights are unknown or do not fit together.
    """
    with torch.random.fork_rng(devices=[]), one_first():
        torch.manual_seed(seed)
        model = get_model(
            name, num_classes=task.num_outputs, in_channels=task.input_shape[0], weights=weights
        )
    try:
        return model.to(device_of(task)).eval()
    except NotImplementedError as error:  # as that of torch.export
        raise ValueError(
            f"the network {name} has no training mode ({first_line(error)}); "
            "give the module that it was made from"
        ) from error


def check_answers_of(name: str, model: nn.Module, task: Task) -> None:
    """Check that a network runs on a task's inputs, and that the task accepts its answers.

    Args:
        name: Name of the network, for messages.
        model: The network, on the CPU or the task's device.
        task: The task.

    Raises:
        ValueError: If it does not, its weights or statistics are not finite, or the task does not accept its
            answers.
        TypeError: If something is of the wrong type.
    """
    check_usable(model)
    try:
        check_answers(model, task)
    except (ValueError, TypeError, OSError):
        raise
    except Exception as error:  # the network's code may raise anything
        if is_out_of_memory(error):
            raise
        shape = "x".join(map(str, task.input_shape))
        raise ValueError(
            f"the network {name} does not run on inputs of {shape}: {first_line(error)}"
            f"{other_precision(model)}"
        ) from error


def train_dense_network(
    model: nn.Module, task: Task, epochs: int, seed: int, folder: RunFolder, name: str
) -> None:
    """Train a dense network from random weights and save it.

    Args:
        model: The network with random weights; trained in place.
        task: The training data and loss.
        epochs: Passes over the training images.
        seed: Seed of their order and augmentation.
        folder: Folder of the run, to which ``<name>.safetensors`` is written; ``--weights`` reads it.
        name: Name of the file, without suffix.

    Raises:
        FloatingPointError: If the loss or the gradient is not finite.
    """
    recipe = RecoveryConfig.from_scratch(epochs)
    seconds = estimated_duration(training_seconds(model, task, recipe))
    log_info(f"no weights given: training the dense network for {counted(epochs, 'epoch')}, {seconds}")
    with RecoveryMonitor(task, folder, prefix="dense") as monitor:
        try:
            finetune(
                model,
                task,
                recipe,
                seed=seed,
                checkpoint=folder.checkpoint(name),
                val_images=monitor.val_images,
                on_step=monitor.on_step,
                on_epoch=monitor.on_epoch,
            )
        except FloatingPointError as error:
            raise FloatingPointError(
                f"{error}; dense networks are always trained with that, so train it yourself, for --weights"
            ) from error
    model.eval()
    accuracy = measure(model, task, "val", limit=1024).accuracy
    log_info(f"dense network: {metric_name(task)} {accuracy:.2f} % on val")
    folder.write(lambda path: write_tensors(path / f"{name}.safetensors", model.state_dict()))
