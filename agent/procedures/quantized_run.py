"""The pruned network of a run under fake quantisation, for its files in int8."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ...envs.io.wording import counted
from ...envs.modules.copying import replica
from ...envs.quantization.insertion import CALIBRATION_IMAGES, fake_quantize_, float_notes, quantize_
from ...envs.quantization.ranges import load_ranges, set_ranges
from ...envs.tasks import Task
from ...envs.tasks.measuring import measure
from ...envs.tasks.optional_members import metric_name
from ..run.progress import log_info
from .pruned_runs import load_pruned_network, load_pruned_run


def load_quantized_run(folder: Path) -> tuple[nn.Module, tuple[int, ...]]:
    """Rebuild the pruned network of a run, and put it under fake quantisation.

    A run with ``--quantize`` has its ranges. For others they are calibrated on its training images, and both
    accuracies on val are said on the terminal, as nothing has trained the network for int8.

    Args:
        folder: Folder of a finished ``secateur prune`` run.

    Returns:
        The network, on the CPU and in evaluation mode, and the shape of one example, (C, H, W) for images.

    Raises:
        ValueError: If the run is not finished, its files do not fit together, or its data are not there.
    """
    model, shape = load_pruned_network(folder)
    if (quantized := under_ranges_of(folder, model, shape)) is not None:
        return quantized, shape
    try:
        model, task = load_pruned_run(folder, None)
    except ValueError as error:
        raise ValueError(
            f"{folder} was not pruned with --quantize int8, so its ranges have to be calibrated on its "
            f"training images, which cannot be loaded: {error}"
        ) from error
    _calibrate_and_compare(model, task)
    return model.cpu(), shape


def under_ranges_of(folder: Path, model: nn.Module, shape: tuple[int, ...]) -> nn.Module | None:
    """Copy the network of a run under the fake quantisation of its ranges; None if the run has none.

    Args:
        folder: Folder of a finished run.
        model: Its pruned network.
        shape: Shape of one example.

    Raises:
        ValueError: If the ranges are damaged or of another network.
    """
    ranges = load_ranges(folder)
    if ranges is None:
        return None
    quantized = replica(model)
    fake_quantize_(quantized, torch.zeros(2, *shape, device=next(model.parameters()).device))
    try:
        set_ranges(quantized, ranges)
    except ValueError as error:
        raise ValueError(f"the files in {folder} do not fit together: {error}") from error
    return quantized.eval()


def _calibrate_and_compare(model: nn.Module, task: Task) -> None:
    before = measure(model, task, "val").accuracy
    quantize_(model, task)
    after = measure(model, task, "val").accuracy
    for note in float_notes(model):
        log_info(note)
    images = min(CALIBRATION_IMAGES, task.size("train"))
    log_info(
        f"calibrated on {counted(images, 'training image')}: {metric_name(task)} on val {after:.2f} % in "
        f"int8, {before:.2f} % in float; `secateur prune --quantize int8` trains for it"
    )
