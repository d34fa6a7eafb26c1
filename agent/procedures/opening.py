"""Open a job: load the data and the dense networks, check them, and say on the terminal what they are.

What is found out before anything is decided:

* Another customary normalisation suits a network better: the job stops and names the flag.
* A network has not learned more than a constant answer: a warning with the usual causes.
* A network knows the images of val: the search uses one half of test, the report the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ...envs.io.wording import counted
from ...envs.models import is_user_defined
from ...envs.tasks import Measurement, SplitName, Task, list_datasets, measure
from ...envs.tasks.images.datasets import default_normalisation, default_val_fraction, given_parts
from ...envs.tasks.images.dense_checks import (
    SAMPLE,
    Images,
    better_normalisation,
    constant_accuracy,
    known_better,
    sample,
)
from ...envs.tasks.images.normalisation import FOR_FOLDERS
from ...envs.tasks.images.splits import VAL_FRACTION, TooFewError, stratified_split
from ...envs.tasks.metric_direction import score_of_wrong_targets
from ...envs.tasks.optional_members import metric_name
from ...envs.tracing import trace
from ..run.progress import log_info
from .data_config import OTHER_CHANNELS, SEGMENTATION, DataConfig
from .loading import build_dense_network, check_answers_of, is_user_task, load_task

_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")

_MOST_CLASSES = 5
"""Largest number of classes that a message names."""


@dataclass(frozen=True)
class Dense:
    """A dense network of a job.

    Args:
        name: Name of the network, for messages.
        build: Builds it for a task; takes the task and a seed of random weights.
        is_trained: Whether it is trained already.
    """

    name: str
    build: Callable[[Task, int], nn.Module]
    is_trained: bool = True


@dataclass(frozen=True)
class Opened:
    """The data and the dense networks of a job.

    Args:
        data: The data options, with what was found out: ``val_from``, ``val_reason`` and ``channels``.
        task: The task, on its device.
        models: The dense networks in the order of their names, on the same device.
        notes: Sentences for the report.
    """

    data: DataConfig
    task: Task
    models: tuple[nn.Module, ...]
    notes: tuple[str, ...] = ()


def dense_networks(
    names: Sequence[str], weights: Sequence[str | None], dense_epochs: int = 0
) -> tuple[Dense, ...]:
    """Describe the dense networks of a job.

    Args:
        names: Their names.
        weights: Their weights, None for networks without.
        dense_epochs: Epochs for which networks without weights are trained. With 0, a factory of one's own is
            taken to load its weights itself.
    """
    return tuple(
        Dense(
            name,
            partial(_build_by_name, name, file),
            is_trained=file is not None or (is_user_defined(name) and not dense_epochs),
        )
        for name, file in zip(names, weights, strict=True)
    )


def _build_by_name(name: str, weights: str | None, task: Task, seed: int) -> nn.Module:
    return build_dense_network(name, task, weights, seed)


def open_job(
    data: DataConfig,
    networks: Sequence[Dense],
    seed: int,
    *,
    resumed: bool = False,
    to_prune: bool = True,
) -> Opened:
    """Load the data and the dense networks of a job, check them, and say on the terminal what they are.

    Args:
        data: The data options.
        networks: The dense networks.
        seed: Seed of the split and of random weights.
        resumed: Whether an earlier process has checked them.
        to_prune: Whether the networks will be pruned, not only measured.

    Raises:
        ValueError: If the data or a network cannot be loaded, they do not fit together, or another customary
            normalisation makes a network significantly better and none was chosen.
        TypeError: If a member of a user-defined task has the wrong type.
    """
    is_checked = [network.is_trained and not resumed for network in networks]
    is_open = data.val_from == "auto" and not is_user_task(data)
    if is_open:
        data = replace(data, val_from=_likely_val(data) if any(is_checked) else "train")
    try:
        data, task, models = _load(data, networks, seed)
    except TooFewError:
        if not is_open or data.val_from == "train":
            raise
        data, task, models = _load(replace(data, val_from="train"), networks, seed)
        is_open = False  # so few images decide nothing
    checked = [
        (network.name, model)
        for network, model, this in zip(networks, models, is_checked, strict=True)
        if this
    ]
    if checked and isinstance(task, Images) and not is_user_task(data):
        if data.normalisation is None and task.transforms is None:
            for name, model in checked:
                _require_best_normalisation(name, model, task, data)
        if is_open and given_parts(data.data) != {"train"}:
            data, task = _take_unseen_val(data, task, checked, seed)
    notes = (data.val_reason,) if data.val_reason else ()
    for line in (*_data_lines(data, task, is_trained=bool(checked)), *notes):
        log_info(line)
    for name, model in checked:
        _log_dense(name, model, task, to_prune=to_prune)
    return Opened(data, task, models, notes)


def describe_own_task(task: Task, name: str, model: nn.Module) -> None:
    """Say on the terminal what a task of the user's own and its dense network are.

    Args:
        task: The task.
        name: Name of the network.
        model: The network, on the task's device.
    """
    for line in _own_task_lines(task):
        log_info(line)
    check_answers_of(name, model, task)
    _log_dense(name, model, task, to_prune=True)


def _likely_val(data: DataConfig) -> str:
    """Return where val most likely has to come from, as data that are read twice take twice as long.

    Weights for data with their own val were probably trained without it, others on all of train.
    """
    if not Path(data.data).is_dir() and data.data not in list_datasets():
        return "train"  # there are no such data, which loading says
    parts = given_parts(data.data)
    return "test" if {"val", "test"} & parts and not {"val", "test"} <= parts else "train"


def _load(
    data: DataConfig, networks: Sequence[Dense], seed: int
) -> tuple[DataConfig, Task, tuple[nn.Module, ...]]:
    """Load the data and the networks; images get the number of channels that the networks take."""
    task: Task = load_task(data, seed)
    try:
        return data, task, _build(networks, task, seed)
    except ValueError as error:
        channels = OTHER_CHANNELS.get(task.input_shape[0])
        is_fixed = is_user_task(data) or data.channels is not None
        if is_fixed or channels is None or not isinstance(task, Images) or task.transforms is not None:
            raise
        try:
            models = _build(networks, sample(task, "train", 2).with_channels(channels), seed)
        except (ValueError, TypeError):
            raise error from None
        data = replace(data, channels=channels)
        return data, load_task(data, seed), models


def _build(networks: Sequence[Dense], task: Task, seed: int) -> tuple[nn.Module, ...]:
    models = []
    for network in networks:
        model = network.build(task, seed)
        check_answers_of(network.name, model, task)
        models.append(model)
    return tuple(models)


def _require_best_normalisation(name: str, model: nn.Module, task: Images, data: DataConfig) -> None:
    found = better_normalisation(model, task)
    if found is None:
        return
    best, (given, better, images) = found
    in_use = _normalisation_name(data)
    raise ValueError(
        f"the dense network {name} has {metric_name(task)} {given:.1f} % on {counted(images, 'image')} with "
        f"the normalisation {in_use}, the default here, and {better:.1f} % with {best}: give --normalisation "
        f"{best}, or --normalisation {in_use} if that is right"
    )


def _take_unseen_val(
    data: DataConfig, task: Images, checked: Sequence[tuple[str, nn.Module]], seed: int
) -> tuple[DataConfig, Task]:
    """Take val from test if a network knows the images of train or val that val would consist of."""
    if data.val_from == "test":
        source = "train"
        share = VAL_FRACTION if data.task == SEGMENTATION else default_val_fraction(data.data)
        _, taken = stratified_split(task.splits["train"].strata, share, seed)
        known, unseen = sample(task, "train", indices=taken), sample(task, "val")
    else:
        source = "val"
        try:
            _, half = stratified_split(task.splits["test"].strata, 0.5, seed)
        except TooFewError:
            return data, task  # so few images decide nothing
        known, unseen = sample(task, "val"), sample(task, "test", indices=half)
    compared = [(*known_better(model, known, unseen), name) for name, model in checked]
    is_known, (on_known, on_unseen, _), name = max(compared)
    val_from = "test" if is_known else "train"
    chosen: Task = task
    if val_from != data.val_from:
        data = replace(data, val_from=val_from)
        chosen = load_task(data, seed)
    if not is_known:
        return data, chosen
    halved = "test" if "test" in given_parts(data.data) else "val"
    sentence = (
        f"The dense network {name} knows the images of {source} ({metric_name(task)} {on_known:.1f} %, on "
        f"images of {halved} {on_unseen:.1f} %): the search uses one half of {halved}, the report the other "
        "(--val-from chooses otherwise)."
    )
    return replace(data, val_reason=sentence), chosen


def _normalisation_name(data: DataConfig) -> str:
    default = FOR_FOLDERS if data.task == SEGMENTATION else default_normalisation(data.data)
    return data.normalisation or default


def _own_task_lines(task: Task) -> list[str]:
    shape = "x".join(map(str, task.input_shape))
    sizes = ", ".join(f"{split} {task.size(split):,}" for split in _SPLITS)
    return [
        f"data: {task.name}, examples of {shape}, {counted(task.num_outputs, 'output')}; {sizes}",
        *task.notes,
    ]


def _data_lines(data: DataConfig, task: Task, *, is_trained: bool) -> list[str]:
    """Describe the data, and warn if a trained network may know all of them."""
    if is_user_task(data) or not isinstance(task, Images):
        return _own_task_lines(task)
    shape = "x".join(map(str, task.input_shape))
    sizes = ", ".join(f"{split} {task.size(split):,}" for split in _SPLITS)
    source = (
        f"{task.name} ({data.data})" if Path(data.data).is_dir() and data.data != task.name else task.name
    )
    lines = [f"data: {source}, {counted(task.num_outputs, 'class', 'classes')}, images of {shape}; {sizes}"]
    lines.append(f"images: {task.storage}")
    if data.channels is not None:
        how = "each grey image is repeated" if data.channels == 3 else "the images are converted to grey"
        lines.append(f"channels: the network takes {data.channels}, so {how}")
    lines += [task.transforms.note] if task.transforms is not None else _preparation(data, task, is_trained)
    if is_trained and "test" not in given_parts(data.data):
        lines.append(
            "warning: there is no test part, so test is taken from the images that the weights may know, and "
            "its accuracies may be far too good; put images that they have not seen into a folder test/"
        )
    return lines


def _preparation(data: DataConfig, task: Images, is_trained: bool) -> list[str]:
    """Say how images are normalised and augmented."""
    mean, std = (" ".join(f"{value:.3g}" for value in values) for values in (task.mean, task.std))
    more = "; --augment flip, crop or flip-crop adds one"
    if is_trained:  # batch-norm statistics should be those of the network's training
        more = " (give that of the network's training: --augment flip, crop or flip-crop)"
    more = more if task.augmentation == "none" else ""
    return [
        f"normalisation: {_normalisation_name(data)} (mean {mean}, deviation {std})",
        f"augmentation of training images: {task.augmentation}{more}",
    ]


def _log_dense(name: str, model: nn.Module, task: Task, *, to_prune: bool) -> None:
    """Say how good a network is on val, and warn if it has not learned anything."""
    if not isinstance(task, Images):
        found = measure(model, task, "val", limit=SAMPLE)
        log_info(_dense_line(name, task, found))
        if 0 < found.accuracy <= 1:
            log_info(
                "warning: scores are percent, and drops percentage points; if this one is a share of 1, "
                "multiply the metric by 100"
            )
        if (scores := score_of_wrong_targets(model, task)) is not None:
            right, wrong = (f"{score:.2f}" for score in scores)
            log_info(
                f"warning: {metric_name(task)} is {right} on the right targets and {wrong} on wrong ones; "
                "higher counts as better here. If lower is better, let the metric return its negative"
            )
        return
    few = sample(task, "val")
    measured = measure(model, few, "val", by_example=True)
    log_info(_dense_line(name, task, measured))
    constant = constant_accuracy(few, measured)
    if constant is not None:
        if to_prune and not trace(model, torch.zeros(2, *task.input_shape)).layers:
            return  # what cannot be pruned at all, as will be said, needs no advice on its accuracy
        classes = ", ".join(task.classes[:_MOST_CLASSES])
        more = ", ..." if len(task.classes) > _MOST_CLASSES else ""
        log_info(
            f"warning: that is not better than the same answer for every image ({constant:.1f} %); usual "
            f"causes: the network was trained with another order of the classes (here {classes}{more}), "
            "another order of the channels (here RGB) or another normalisation, or the weights are those of "
            "another network or data set"
        )


def _dense_line(name: str, task: Task, measured: Measurement) -> str:
    images = "" if measured.images == task.size("val") else f"{counted(measured.images, 'image')} of "
    return f"dense network {name}: {metric_name(task)} {measured.accuracy:.2f} % on {images}val"
