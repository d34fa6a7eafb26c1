"""The content of a run's report: both networks measured on test, once, and the details of the run."""

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ...envs.cost.config import LatencyConfig
from ...envs.cost.counts import cost
from ...envs.models import list_models
from ...envs.problem.problem import PruningProblem
from ...envs.surgery.cutting import file_bytes
from ...envs.surgery.plan import PruningPlan
from ...envs.tasks import Measurement, Task, measure
from ...envs.tasks.intervals import drop_interval, meets
from ...envs.tasks.measuring import class_accuracies
from ...envs.tasks.optional_members import ACCURACY, class_names, metric_name
from ...envs.tracing import TracedNetwork
from ..run.wording import worded
from .remarks import remarks
from .speed import Speeds, measure_speeds

_RATIOS = ("macs", "params", "filters", "latency_ms", "images_per_second", "file_bytes")

_SUSPICIOUS = 3.0
"""Accuracy on val minus accuracy on test, percentage points, above which a dense network has seen val."""

_DEVIATIONS = 3.0
"""Standard deviations by which chance may make that difference as large."""


@dataclass(frozen=True)
class Dense:
    """The dense network that a report compares with.

    Args:
        model: The network.
        network: Its trace.
    """

    model: nn.Module
    network: TracedNetwork


def summarize_run(
    problem: PruningProblem,
    pruned: nn.Module,
    plan: PruningPlan,
    notes: list[str],
    *,
    latency: LatencyConfig,
    drop_bound: float | None = None,
    drop_on_val: dict[str, Any] | None = None,
    dense: Dense | None = None,
    **run_details: Any,
) -> dict[str, Any]:
    """Return the content of ``report.json``.

    Args:
        problem: The dense network and its data.
        pruned: The cut and recovered network.
        plan: The plan of the cut.
        notes: Notes on the run, in addition to those of the task.
        latency: Settings of latency measurements.
        drop_bound: Largest accuracy drop allowed, percentage points; None if there is no bound.
        drop_on_val: What was found about the bound on images of val, see :mod:`.report`; None if nothing was.
        dense: The network to compare with; None is that of the problem, which may lack blocks.
        **run_details: Further entries: ``method``, ``search``, ``recovery``, ``seed``, ``command``.
    """
    task, network = problem.task, problem.network
    original = dense or Dense(problem.model, network)
    measured_dense = measured_row(original.model, task, size_row(original.network))
    smaller = measured_row(pruned, task, size_row(network, plan.counts(network)))
    bound: dict[str, Any] = {}
    if drop_bound is not None:
        interval = drop_interval(task, measured_dense[1], smaller[1])
        bound = {"bound": drop_bound, "met": meets(interval, drop_bound)}
    bound |= {} if drop_on_val is None else {"on_val": drop_on_val}
    report = describe_networks(
        problem.name,
        network,
        task,
        plan,
        measured_dense,
        smaller,
        [*notes, *_known_val(problem, measured_dense[1])],
    )
    report |= {"device": device_name(pruned), **({"drop_bound": bound} if bound else {}), **run_details}
    return with_speeds(report, measure_speeds((original.model, pruned), task, latency))


MeasuredRow: TypeAlias = tuple[dict[str, Any], Measurement]
"""A network's row of the report, and its measurement on test by example."""


def describe_networks(
    name: str,
    network: TracedNetwork,
    task: Task,
    plan: PruningPlan,
    dense: MeasuredRow,
    pruned: MeasuredRow,
    notes: list[str],
) -> dict[str, Any]:
    """Return what a report says about two networks without the times, which :func:`with_speeds` adds.

    Args:
        name: Name of the network.
        network: The trace of the dense network.
        task: Data and metric.
        plan: The plan of the cut.
        dense: The dense network, as measured.
        pruned: The smaller network, as measured.
        notes: Notes on the run, in addition to those of the task.
    """
    (dense_row, dense_measured), (row, measured) = dense, pruned
    interval = drop_interval(task, dense_measured, measured)
    return {
        "model": name,
        "data": task.name,
        "built_by_name": is_built_by_name(name),
        "num_outputs": task.num_outputs,
        "input_shape": list(task.input_shape),
        "classes": class_names(task),
        "normalisation": _normalisation(task),
        "augmentation": getattr(task, "augmentation", None),
        "dense": dense_row,
        "pruned": row,
        "accuracy_drop": dense_row["accuracy"] - row["accuracy"],
        "accuracy_drop_interval": None if interval is None else list(interval),
        "metric": metric_name(task),
        "details": _details(task, dense_measured, measured),
        "layers": [
            {"name": name, "filters": plan.filters[name], "kept": len(kept)}
            for name, kept in plan.kept.items()
        ],
        "attributes": dict(plan.attributes),
        "inexact": list(network.inexact),
        "splits": {
            "train": task.size("train"),
            "val": task.size("val"),
            "test": task.size("test"),
            "notes": [*task.notes, *map(worded, notes)],
        },
        "versions": versions(),
        "pinned": [
            {"name": p.name, "pinned": p.pinned, "filters": p.filters, "cause": str(p.cause)}
            for p in network.pinned
        ],
    }


def with_speeds(report: dict[str, Any], measured: Speeds) -> dict[str, Any]:
    """Add the times of both networks to a report, the ratios of all sizes, and the remarks.

    Args:
        report: What :func:`describe_networks` says, with the details of the run.
        measured: Times of the dense and of the smaller network, see :func:`.measure_speeds`.
    """
    (of_dense, of_pruned), settings, notes = measured
    dense, pruned = report["dense"] | of_dense, report["pruned"] | of_pruned
    splits = {**report["splits"], "notes": [*report["splits"]["notes"], *map(worded, notes)]}
    # A network without prunable filters has 0 of 0.
    ratios = {key: pruned[key] / dense[key] if dense[key] else 1.0 for key in _RATIOS}
    report = report | {"dense": dense, "pruned": pruned, "splits": splits, **settings, "ratios": ratios}
    return report | {"remarks": remarks(report)}


def _known_val(problem: PruningProblem, on_test: Measurement) -> list[str]:
    """Return a note if the dense network is much better on val than on test; else nothing."""
    on_val, metric = problem.evaluator.dense, metric_name(problem.task)
    if metric != ACCURACY:
        return []
    chance = _DEVIATIONS * _deviation(on_val.accuracy, on_test.accuracy, on_val.images, on_test.images)
    if on_val.accuracy - on_test.accuracy <= max(_SUSPICIOUS, chance):
        return []
    return [
        f"The dense network has {on_val.accuracy:.1f} % on {on_val.images:,} images of val and "
        f"{on_test.accuracy:.1f} % on test: it has probably been trained on val, "
        "so accuracy drops on val mean little."
    ]


def summarize_int8(model: nn.Module, task: Task, report: dict[str, Any]) -> dict[str, float]:
    """Return the report's entry on the pruned network in int8, measured on test.

    Args:
        model: The network under fake quantisation.
        task: Data, loss and metric.
        report: The rest of the report.
    """
    measured = measure(model, task, "test")
    return {
        "accuracy": measured.accuracy,
        "loss": measured.loss,
        "accuracy_drop": report["dense"]["accuracy"] - measured.accuracy,
    }


def _deviation(one: float, other: float, images: int, others: int) -> float:
    """Return the standard deviation of the difference of two equal accuracies, percentage points."""
    mean = (one + other) / 200
    return 100 * float(np.sqrt(mean * (1 - mean) * (1 / images + 1 / others)))


def is_built_by_name(name: str) -> bool:
    """Return whether :func:`secateur.envs.models.get_model` builds the network from its name."""
    return ":" in name or name in list_models()


def _normalisation(task: Task) -> dict[str, list[float]] | None:
    """Return mean and standard deviation for normalising images in [0, 1]; None if the task has none."""
    mean, std = getattr(task, "mean", None), getattr(task, "std", None)
    return None if not mean or not std else {"mean": list(mean), "std": list(std)}


def size_row(network: TracedNetwork, kept: npt.ArrayLike | None = None) -> dict[str, float]:
    """Return the cost, with the predicted latency if there is a latency table.

    Args:
        network: A trace.
        kept: Kept filters of each layer, shape (L,); None for all.
    """
    counts = network.widths if kept is None else np.asarray(kept)
    predicted = {} if network.latency is None else {"predicted_latency_ms": float(network.latency(counts))}
    return {**asdict(cost(network, counts)), **predicted}


def measured_row(model: nn.Module, task: Task, size: dict[str, float]) -> MeasuredRow:
    """Measure one network on test.

    Args:
        model: The network.
        task: Data and metric.
        size: Its size, see :func:`size_row`.
    """
    measured = measure(model, task, "test", by_example=True)
    row = {
        "accuracy": measured.accuracy,
        "loss": measured.loss,
        **size,
        "file_bytes": file_bytes(model),
    }
    return row, measured


def _details(task: Task, dense: Measurement, pruned: Measurement) -> list[dict[str, Any]]:
    """Return the metric of each class or output: the task's own details, else the accuracy of each class."""
    both = (dense, pruned)
    of_dense, of_pruned = (measured.details or class_accuracies(task, measured) for measured in both)
    return [{"name": name, "dense": of_dense[name], "pruned": value} for name, value in of_pruned.items()]


_PACKAGES = ("secateur", "torch", "torchvision", "stable-baselines3", "gymnasium", "numpy")


def versions() -> dict[str, Any]:
    """Return the versions of Python and of the packages that affect results, and torch's threads."""
    versions_by_name = {"python": platform.python_version(), "threads": torch.get_num_threads()}
    for package in _PACKAGES:
        try:
            versions_by_name[package] = version(package)
        except PackageNotFoundError:
            versions_by_name[package] = "not installed"
    return versions_by_name


def device_name(model: nn.Module) -> str:
    """Return the name of the processor of a network, such as ``NVIDIA H200`` or ``cpu (x86_64, AVX512)``.

    The instruction set of a CPU matters: without bfloat16 instructions, all is computed in float32.
    """
    device = next(model.parameters()).device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"
