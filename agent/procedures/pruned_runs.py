"""Pruned networks of finished runs, rebuilt from their folders."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...envs.io.memory import is_out_of_memory
from ...envs.io.run_files import CONFIG, REPORT
from ...envs.io.untrusted import first_line, short
from ...envs.io.wording import counted
from ...envs.models import get_model
from ...envs.surgery.cutting import load_pruned
from ...envs.tasks import Task
from ..reporting.report import read_report
from ..run.flat_options import read_config
from .data_config import DataConfig, read_data_config
from .loading import build_dense_network, device_of, load_task

_MOST_OUTPUTS, _LARGEST_EXAMPLE = 2**16, 2**26
"""Largest number of outputs and of values per example that a report may name, checked before allocation."""


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
    report = read_report(folder) if (folder / REPORT).is_file() else {}
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
    path, report = folder / REPORT, read_report(folder)
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
