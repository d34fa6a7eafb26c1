"""``secateur.compare``, and what it shares with the command."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn

from ...envs.io.ranges import check_whole
from ...envs.io.run_files import CHECKPOINTS, COMPARISON
from ...envs.modules.digest import weights_digest
from ...envs.modules.modes import restored_modes
from ...envs.problem.problem import check_prunable
from ...envs.recovery.training_check import check_training
from ...envs.sparsity.masks import sparsity
from ...envs.surgery.constraints import Constraints
from ...envs.tasks import Task
from ...envs.tasks.fingerprint import data_fingerprint
from ...envs.tracing import TracedNetwork
from ..procedures.data_config import DataConfig, read_data_config
from ..procedures.keywords import checked_keywords, split_keywords
from ..procedures.preparation import logged, trace_for_task
from ..procedures.python_runs import (
    Data,
    check_network,
    check_resumable,
    data_config,
    is_resumed,
    open_for_python,
    own_data,
)
from ..procedures.python_words import speaks_python
from ..reporting.comparison import comparison_table, read_comparison
from ..reporting.summary import measured_row, size_row
from ..run.folder import RunFolder
from ..run.origin import Origin
from ..systems.registry import DENSE_SIZED, SYSTEMS
from .all_members import run_comparison
from .config import USUAL, ComparisonConfig
from .shared import Shared

TABLE_WIDTH = 100
"""Columns of the table."""


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison; as a text it is the table.

    Args:
        content: The content of ``compare.json``.
    """

    content: Mapping[str, Any] = field(repr=False)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each run: ``method``, ``kind``, ``target``, ``seed``, ``folder``; ``failed``, why, or "".

        Unless it failed also ``accuracy`` (percent, test), ``accuracy_drop`` (points), ``macs_ratio``,
        ``params_ratio``, ``nonzero``, ``latency_ratio``, ``file_ratio``, ``epochs`` and ``seconds``.
        """
        return list(self.content["members"])

    @property
    def table(self) -> list[dict[str, Any]]:
        """A row for each system and size, with ``mean`` and ``deviation`` over the seeds of each number."""
        return list(self.content["table"])

    def __str__(self) -> str:
        written = io.StringIO()
        Console(file=written, width=TABLE_WIDTH).print(comparison_table(self.content))
        return "\n".join(line.rstrip() for line in written.getvalue().splitlines())


@dataclass(frozen=True)
class PythonComparison:
    """The options of a comparison that was started from Python, for its ``config.yaml``.

    Args:
        model: Name of the network.
        data: Options of the data.
        options: Options of the comparison.
    """

    model: str
    data: DataConfig = field(default_factory=DataConfig)
    options: ComparisonConfig = field(default_factory=ComparisonConfig)


@speaks_python
def compare(
    model: nn.Module,
    task: Data,
    *,
    methods: Sequence[str] | str = USUAL,
    targets: Sequence[float] | float = (0.5,),
    seeds: Sequence[int] | int = (0,),
    out: str | Path | None = None,
    jobs: int = 1,
    resume: bool = False,
    name: str | None = None,
    **options: Any,
) -> Comparison:
    """Compare ways of pruning: the same network, data, sizes, seeds and passes over the training images.

    Args:
        model: The trained network; its weights are not changed.
        task: Data, loss and metric; or the name of a data set or a folder of images, as for ``--data``.
        methods: Systems: ``agent``, heuristics such as ``fpgm-global``, and those of the page on systems.
        targets: Target MACs ratios, pruned / dense, each in (0, 1].
        seeds: Seeds of all random numbers; each system prunes with each.
        out: Folder of the comparison, new or empty, with a folder for each run; None keeps the numbers alone.
        jobs: Runs at the same time, at least 1; each in a process of its own on a GPU or a core.
        resume: Whether to continue an interrupted comparison in ``out``, with the same options, to the same
            result. A finished one is loaded; a new one begins if there is none.
        name: Name of the network in the report; by default that of its class. With a name that builds it,
            such as ``mypackage.nets:build``, ``secateur evaluate`` and ``export`` take the folder, too.
        **options: Options of the recovery and of the data, such as ``epochs=10``, and ``effort="quick"``.

    Returns:
        The comparison; print it.

    Raises:
        ValueError: If an option is unknown or wrong, ``out`` holds another run or is needed,
            or every system failed.
        KeyboardInterrupt: If it is interrupted; with ``out`` it can be resumed.
    """
    check_resumable(out, resume)
    given = checked_keywords("compare", options)
    recovery, data_options = split_keywords(given, ComparisonConfig, DataConfig)
    check_network(model)
    config = ComparisonConfig(
        methods=_several("methods", methods, str, "a name"),
        targets=_several("targets", targets, Real, "a number"),
        seeds=_several("seeds", seeds, Integral, "a whole number"),
        **recovery,
    )
    config.check_methods(SYSTEMS)
    check_whole("jobs", jobs, 1)
    data, name = data_config(task, data_options), name or type(model).__name__
    is_kept = out is not None
    with contextlib.ExitStack() as stack:
        if out is None:
            out = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "compare"
        out = Path(out)
        origin = Origin(weights_digest(model))
        run = PythonComparison(name, data, config)
        resumed = is_resumed(out, run, resume, default=PythonComparison(name))
        if resumed and (out / COMPARISON).is_file():
            replace(origin, examples=own_data(task)).check(out)
            return Comparison(read_comparison(out))
        if resumed:
            data = read_data_config(out)  # with what was found out
        stack.enter_context(restored_modes(model))
        loaded, data, _ = open_for_python(model, task, data, config.seeds[0], name, resumed=resumed)
        model.eval()
        network = checked_network(model, loaded, config, name)
        options_of_run = PythonComparison(name, data, config)
        advice = f"secateur.compare(..., out={str(out)!r}, resume=True)"
        if not is_kept:
            advice = "it cannot be resumed, as no out was given"
        origin = replace(origin, examples=data_fingerprint(loaded))
        folder = stack.enter_context(
            RunFolder(out, options_of_run, resumed=resumed, advice=advice, origin=origin)
        )
        return Comparison(compare_in(folder, name, model, loaded, network, data, config, jobs))


def checked_network(model: nn.Module, task: Task, config: ComparisonConfig, name: str) -> TracedNetwork:
    """Trace the dense network, and check that it can be trained, and pruned by one of the systems.

    A network whose filters are all pinned is compared if one of them removes something else.

    Raises:
        ValueError: If it cannot.
    """
    network, _ = trace_for_task(model, task, Constraints())
    if all(
        SYSTEMS[method].kind in ("filters", "width") and method not in DENSE_SIZED
        for method in config.methods
    ):
        check_prunable(network, name)
    if config.recipe.epochs:
        logged(check_training(model, task, config.pruning(1.0, config.seeds[0]).recovery, teacher=model))
    return network


def compare_in(
    folder: RunFolder,
    name: str,
    model: nn.Module,
    task: Task,
    network: TracedNetwork,
    data: DataConfig,
    config: ComparisonConfig,
    jobs: int,
) -> dict[str, Any]:
    """Compare systems in an open folder; return the content of ``compare.json``.

    Args:
        folder: The folder.
        name: Name of the network.
        model: The dense network, trained, in evaluation mode, on the task's device.
        task: Data, loss and metric.
        network: The trace of the dense network.
        data: Options of the data.
        config: Options of the comparison.
        jobs: Runs at the same time.
    """
    row, measured = measured_row(model, task, size_row(network))
    shared = Shared(
        name,
        model,
        task,
        network,
        data,
        config,
        out=folder.path,
        checkpoints=folder.path / CHECKPOINTS,
        advice=folder.advice,
        command=folder.command,
        origin=Origin(weights_digest(model)),
        dense=(row | {"nonzero": 1 - sparsity(model)}, measured),
    )
    return run_comparison(shared, folder, jobs)


def _several(name: str, given: Any, kind: type, what: str) -> tuple[Any, ...]:
    """Return one value or several as a tuple."""
    is_one = isinstance(given, kind | str) or not isinstance(given, Iterable)
    values = (given,) if is_one else tuple(given)
    if wrong := [value for value in values if not isinstance(value, kind)]:
        raise TypeError(f"{name} has {wrong[0]!r}; give {what}, or several")
    return values
