"""Loading of tasks, dense networks and pruned networks by name."""

import contextlib
import math
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...envs.io.memory import is_out_of_memory
from ...envs.io.run_files import CONFIG, REPORT, no_run, not_finished
from ...envs.io.suggestions import unknown_name
from ...envs.io.tensor_files import write_tensors
from ...envs.io.untrusted import first_line, parse_json, read_text, short
from ...envs.io.wording import counted
from ...envs.models import get_model
from ...envs.modules.precision import other_precision
from ...envs.modules.process_group import local_rank
from ...envs.modules.ranks import one_first, ranks
from ...envs.modules.usable_weights import check_usable
from ...envs.recovery.config import RecoveryConfig
from ...envs.recovery.finetuning import finetune
from ...envs.recovery.step_time import training_seconds
from ...envs.surgery.cutting import load_pruned
from ...envs.tasks import SegmentationTask, Task, get_task, load_segmentation, measure
from ...envs.tasks.optional_members import metric_name
from ...envs.tasks.user_task import check_answers, load_user_task, on_device
from ..run.flat_options import read_config
from ..run.folder import RunFolder
from ..run.progress import estimated_duration, log_info
from ..run.recovery_monitor import RecoveryMonitor
from .data_config import (
    OF_ANY_TASK,
    SEGMENTATION,
    TASKS,
    DataConfig,
    is_own_task,
    read_data_config,
    refuse_data_option,
)

_MOST_OUTPUTS, _LARGEST_EXAMPLE = 2**16, 2**26
"""Largest number of outputs and of values per example that a report may name, checked before allocation."""


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
    except (ValueError, TypeError):
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


def load_pruned_run(folder: Path, data: DataConfig | None) -> tuple[nn.Module, Task]:
    """Rebuild the pruned network of a run, and load the data that it was pruned on.

    Args:
        folder: Folder of a ``secateur prune`` run.
        data: The data options; None takes those of the run.

    Raises:
        ValueError: If the run is not finished, its files do not fit together, or its network or data were
            objects of a Python program.
    """
    path, own_data = folder / CONFIG, read_data_config(folder)
    data = data or own_data
    report = _report(folder) if (folder / REPORT).is_file() else {}
    _check_has_a_name(report, folder)
    config = read_config(folder)
    try:
        name, seed = config["model"], config.get("data_seed", config["seed"])
        if not isinstance(name, str) or type(seed) is not int or not 0 <= seed < 2**63:
            raise ValueError("the model has to be a name, and the seed a whole number from 0 on")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe a prune run: {first_line(error)}") from error
    task = load_task(data, seed)
    if data == own_data and report.get("data", task.name) != task.name:
        raise ValueError(
            f"the data of {folder}, {short(str(report['data']))!r}, were an object of a Python program; "
            f"give other data, or load the network with secateur.load(build, {str(folder)!r})"
        )
    model = load_pruned(lambda: build_dense_network(name, task, None, seed).cpu(), folder)
    _check_runs(model, task.input_shape, folder)
    return model.to(device_of(task)), task


def load_pruned_network(folder: Path) -> tuple[nn.Module, tuple[int, ...]]:
    """Rebuild the pruned network of a run without its data.

    Args:
        folder: Folder of a finished ``secateur prune`` run.

    Returns:
        The network, on the CPU and in evaluation mode, and the shape of one example, (C, H, W) for images.

    Raises:
        ValueError: If the run is not finished, or its files do not fit together.
    """
    path = folder / REPORT
    if not path.is_file():
        if (folder / CONFIG).is_file():
            raise ValueError(not_finished(folder, REPORT))
        raise ValueError(no_run(folder, REPORT))
    report = _report(folder)
    try:
        if missing := {"model", "num_outputs", "input_shape"} - set(report):
            raise ValueError(f"{min(missing)} is missing")
        name, outputs, shape = report["model"], report["num_outputs"], tuple(report["input_shape"])
        whole = all(type(size) is int and size >= 1 for size in (outputs, *shape))
        if not isinstance(name, str) or not whole or not shape:
            raise ValueError("the model has to be a name, its outputs and input shape whole numbers")
        if outputs > _MOST_OUTPUTS or math.prod(shape) > _LARGEST_EXAMPLE:
            raise ValueError(f"examples of {shape} and {counted(outputs, 'output')} are too large")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe a pruned network: {first_line(error)}") from error
    _check_has_a_name(report, folder)
    model = load_pruned(lambda: get_model(name, num_classes=outputs, in_channels=shape[0]), folder)
    _check_runs(model, shape, folder)
    return model, shape


def _report(folder: Path) -> dict[str, Any]:
    """Read the report of a run.

    Raises:
        ValueError: If it is damaged.
    """
    path = folder / REPORT
    try:
        report = parse_json(read_text(path))
        if not isinstance(report, dict):
            raise ValueError("it has no names")
    except ValueError as error:
        raise ValueError(f"{path} does not describe a pruned network: {first_line(error)}") from error
    return report


def _check_has_a_name(report: dict[str, Any], folder: Path) -> None:
    """Check that the network of a run can be built from its name.

    Raises:
        ValueError: If it was an object of a Python program without a name.
    """
    if report.get("built_by_name") is False:
        raise ValueError(
            f"the network of {folder}, a {short(str(report.get('model')))}, was an object of a Python "
            f"program; load it with secateur.load(build, {str(folder)!r}), or give secateur.prune or "
            'secateur.compare name="package.module:build", which builds the dense network'
        )


def _check_runs(model: nn.Module, shape: tuple[int, ...], folder: Path) -> None:
    """Check that a rebuilt network runs.

    Raises:
        ValueError: If its layers do not fit together.
    """
    try:
        with torch.no_grad():
            model(torch.zeros(2, *shape))
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"the files in {folder} do not fit together: the network does not run ({first_line(error)})"
        ) from error
