"""The comparison of systems of pruning: run all members, time their networks, and write what came out."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from stable_baselines3.common.logger import Figure
from torch import nn

from ...envs.cost.config import LatencyConfig
from ...envs.evaluation.local_pool import LocalPool
from ...envs.io.run_files import CHECKPOINTS, MEASURED, REPORT
from ...envs.recovery.checkpoint import Stopped
from ...envs.sparsity.masks import remove_masks
from ...envs.tasks.optional_members import metric_name
from ..reporting.comparison import comparison_content, markdown, write_comparison
from ..reporting.comparison_figure import figure_of_comparison
from ..reporting.comparison_rows import member_row
from ..reporting.report import plain_values, read_report, write_report
from ..reporting.speed import measure_speeds
from ..reporting.summary import device_name, versions, with_speeds
from ..run.folder import NOT_TEXT, RunFolder
from ..run.progress import Stage, log_info
from ..run.results import Results
from ..run.signals import restore_handlers, set_handlers
from ..systems.base import System
from ..systems.registry import DENSE_SIZED, SYSTEMS
from .member import Ending, StopWithAll, open_member, run_member, run_system
from .result_files import rebuild
from .shared import Entry, Shared


def entries_of(methods: Sequence[str], targets: Sequence[float], seeds: Sequence[int]) -> list[Entry]:
    """List the members of a comparison; systems that keep the size of the dense network have no other."""
    return [
        Entry(method, target, seed)
        for method in methods
        for target in ((1.0,) if method in DENSE_SIZED else sorted(targets, reverse=True))
        for seed in seeds
    ]


def run_comparison(shared: Shared, folder: RunFolder, jobs: int) -> dict[str, Any]:
    """Run all members that are not finished, time their networks, and write the page.

    Args:
        shared: What all members have in common.
        folder: The open folder of the comparison.
        jobs: Members that run at the same time, at least 1; each in a process of its own on a GPU or a core;
            1 runs them in this process.

    Returns:
        The content of ``compare.json``.

    Raises:
        ValueError: If all members fail.
        Stopped: If the comparison is interrupted; it can be resumed.
    """
    config = shared.config
    entries = entries_of(config.methods, config.targets, config.seeds)
    shared.stop.unlink(missing_ok=True)
    with _stop_file_on_signal(shared.stop):
        failed = _run_all(shared, folder, [(SYSTEMS[entry.method], entry) for entry in entries], jobs)
        if len(failed) == len(entries):
            shutil.rmtree(shared.checkpoints, ignore_errors=True)
            raise ValueError(f"every system failed; {entries[0].method}: {failed[entries[0].folder]}")
        rows = _timed_rows(shared, folder, entries, failed)
    content = comparison_content(
        rows,
        model=shared.name,
        data=shared.task.name,
        metric=metric_name(shared.task),
        dense=shared.dense[0],
        epochs=config.recipe.epochs,
        effort=config.effort,
        seeds=list(config.seeds),
        command=shared.command,
        device=device_name(shared.model),
        versions=versions(),
    )
    _log(folder, content)
    folder.write(lambda path: write_comparison(path, content))
    return content


def _run_all(
    shared: Shared, folder: RunFolder, work: Sequence[tuple[System, Entry]], jobs: int
) -> dict[str, str]:
    """Run all members; return the reasons of those that failed, by the names of their folders."""
    known = Results(folder.checkpoint("failed"))
    failed: dict[str, str] = known.once("failed", dict)
    left = [(system, entry) for system, entry in work if entry.folder not in failed]
    with contextlib.closing(Stage("compare", max(1, len(left)), "runs")) as begun:
        endings = _endings(shared, left, jobs)
        for number, ((_, entry), ending) in enumerate(zip(left, endings, strict=True), start=1):
            if ending.state == "stopped":
                raise Stopped(folder.advice)
            if ending.state == "failed":
                log_info(f"{entry.folder} failed: {ending.reason}")
                failed[entry.folder] = ending.reason
                folder.checkpoint("failed").save({"failed": failed})
            begun.advance(number, entry.folder)
            folder.check()
    return failed


def _endings(shared: Shared, work: Sequence[tuple[System, Entry]], jobs: int) -> Iterator[Ending]:
    if jobs == 1 or len(work) < 2:
        yield from (run_member(shared, system, entry, in_own_process=False) for system, entry in work)
        return
    with LocalPool(min(jobs, len(work)), next(shared.model.parameters()).device) as pool:
        yield from pool.map(run_member, [pool.put(shared)], [(*each, True) for each in work])


@contextlib.contextmanager
def _stop_file_on_signal(file: Path) -> Iterator[None]:
    """Write the file that stops the members when a signal comes; then what was to be done is done."""
    before: dict[int, Any] = {}

    def on_signal(number: int, frame: FrameType | None) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        if callable(known := before.get(number)):
            known(number, frame)

    before |= set_handlers(on_signal)
    try:
        yield
    finally:
        restore_handlers(before)


def _timed_rows(
    shared: Shared, folder: RunFolder, entries: Sequence[Entry], failed: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Time the networks of all members that have not failed, and return the rows of all."""
    rows = []
    with contextlib.closing(Stage("timing", len(entries), "networks", leave=False)) as stage:
        for number, entry in enumerate(entries, start=1):
            system, reason = SYSTEMS[entry.method], failed.get(entry.folder, "")
            report = None if reason else plain_values(_timed_report(shared, system, entry))
            what = {"method": entry.method, "kind": system.kind, "target": entry.target, "seed": entry.seed}
            rows.append(member_row(what, entry.folder, report, reason))
            stage.advance(number, entry.folder)
            folder.check()
    return rows


def _timed_report(shared: Shared, system: System, entry: Entry) -> dict[str, Any]:
    """Return the report of a finished member; time its network beside the dense one if nobody has yet."""
    path = shared.out / entry.folder
    if (path / REPORT).is_file():
        return read_report(path)
    report = json.loads((path / MEASURED).read_text(encoding="utf-8"))
    model = _network_of(shared, system, entry, is_loadable=not report["system"]["not_loadable"])
    report = with_speeds(report, measure_speeds((shared.model, model), shared.task, LatencyConfig()))
    write_report(path, report)
    (path / MEASURED).unlink()
    shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)
    return report


def _network_of(shared: Shared, system: System, entry: Entry, *, is_loadable: bool) -> nn.Module:
    """Return the network of a finished member: from its files, or made again from its checkpoints."""
    if is_loadable:
        return rebuild(shared, shared.out / entry.folder)
    with open_member(shared, entry, StopWithAll(shared)) as folder:
        folder.keeps_checkpoints = True  # until the times are written
        return remove_masks(run_system(shared, system, entry, folder).model)


def _log(folder: RunFolder, content: Mapping[str, Any]) -> None:
    """Write the comparison to TensorBoard: its table, its figure, and accuracy over size of each system."""
    folder.log_text("comparison", markdown(content))
    title = f"{content['model']} on {content['data']}"
    figure = figure_of_comparison(content["table"], content["dense"]["accuracy"], title, content["metric"])
    folder.logger.record("comparison/accuracy", Figure(figure, close=True), exclude=NOT_TEXT)
    folder.logger.dump(0)
    for row in content["table"]:
        names = ("accuracy", "latency_ratio", "file_ratio", "epochs")
        scalars = {f"{name}/{row['method']}": row[name]["mean"] for name in names if row["seeds"]}
        known = {name: value for name, value in scalars.items() if value is not None}
        folder.log(known, round(100 * row["target"]))  # the step is the size, percent
