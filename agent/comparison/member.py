"""One member of a comparison: a system at a size with a seed, in a folder of its own.

What it leaves is what ``secateur prune`` leaves. Its network is timed later, when nothing else runs.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import torch
from stable_baselines3.common.logger import HParam

from ...envs.io.memory import is_out_of_memory
from ...envs.io.run_files import CONFIG, MEASURED, REPORT
from ...envs.io.untrusted import first_line
from ...envs.modules.randomness import fixed_randomness
from ...envs.recovery.checkpoint import Checkpoint, Stopped
from ...envs.recovery.stopwatch import Stopwatch
from ..procedures.config import PruningConfig
from ..procedures.data_config import DataConfig
from ..run.folder import NOT_TEXT, RunFolder
from ..run.graceful_stop import GracefulStop
from ..run.progress import Verbosity, log_verbose, verbosity
from ..systems.base import Job, Result, System
from .result_files import save_result
from .shared import Entry, Shared

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""What ends the comparison, which can be resumed, and no member alone."""

_REASON = 400
"""Characters of the reason why a member failed: a sentence that says what to do, in full."""


@dataclass(frozen=True)
class Member:
    """The options of a member, for its ``config.yaml``.

    Args:
        model: Name of the network.
        system: Name of the system.
        data: Options of the data.
        options: Options of its run.
        data_seed: Seed of the split of the data, which all members share.
    """

    model: str
    system: str
    data: DataConfig = field(default_factory=DataConfig)
    options: PruningConfig = field(default_factory=PruningConfig)
    data_seed: int = 0


@dataclass(frozen=True)
class Ending:
    """How a member ended.

    Args:
        state: Stopped means that it can go on.
        reason: Why it failed; "" if it did not.
    """

    state: Literal["finished", "failed", "stopped"]
    reason: str = ""


def run_member(shared: Shared, system: System, entry: Entry, in_own_process: bool) -> Ending:
    """Run a member to its end, or on from where an earlier process was stopped.

    Args:
        shared: What all members have in common.
        system: The system.
        entry: What the member does.
        in_own_process: Whether this process runs nothing else.

    Raises:
        OSError: If something cannot be written; the comparison can be resumed.
    """
    path = shared.out / entry.folder
    if (path / REPORT).is_file() or (path / MEASURED).is_file():
        return Ending("finished")
    if shared.stop.exists():
        return Ending("stopped")
    try:
        stopping = StopWithAll(shared)
        with _on_one_core(quiet=in_own_process), open_member(shared, entry, stopping) as folder:
            clock = _Clock(folder.checkpoint("seconds"))
            stopping.each_check = clock.save_when_due
            result = run_system(shared, system, entry, folder)
            report = save_result(shared, entry, system.kind, result, clock.seconds, path)
            folder.keeps_checkpoints = bool(report["system"]["not_loadable"])
            _log(folder, entry, report)
    except Stopped:
        return Ending("stopped")
    except OSError:
        raise
    except Exception as error:  # systems of strangers may raise anything, and the others shall go on
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _DISK_FULL:
            cause = error.__cause__.strerror
            raise OSError(f"{shared.out}: {cause}; make room, then go on with {shared.advice}") from error
        if is_out_of_memory(error):
            reason = "the memory does not suffice"
        else:
            log_verbose(f"{entry.folder}: {error!r}")
            reason = first_line(error, _REASON)
            if not isinstance(error, ValueError | TypeError | FloatingPointError):
                reason = f"{type(error).__name__}: {reason}"
        shutil.rmtree(path, ignore_errors=True)
        return Ending("failed", reason)
    return Ending("finished")


def open_member(shared: Shared, entry: Entry, stopping: GracefulStop) -> RunFolder:
    """Open the folder of a member, new or as an earlier process has left it."""
    path = shared.out / entry.folder
    pruning = shared.config.pruning(entry.target, entry.seed)
    return RunFolder(
        path,
        Member(shared.name, entry.method, shared.data, pruning, shared.config.seeds[0]),
        resumed=(path / CONFIG).is_file(),
        advice=shared.advice,
        origin=shared.origin,
        stopping=stopping,
    )


def run_system(shared: Shared, system: System, entry: Entry, folder: RunFolder) -> Result:
    """Let a system make its network; what it has done in the folder before is read back."""
    job = Job(
        shared.name,
        shared.model,
        shared.task,
        shared.network,
        entry.target,
        shared.config.pruning(entry.target, entry.seed),
        folder,
    )
    device = next(shared.model.parameters()).device
    with fixed_randomness(entry.seed, device=device):
        return system(job)


class StopWithAll(GracefulStop):
    """Stop a member where the stop file appears, which a signal to the whole comparison writes.

    A signal that comes after the last safe point of one member so stops the next one.

    Args:
        shared: What all members have in common.
    """

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared.advice)
        self._shared = shared
        self.each_check: Callable[[], None] | None = None
        """Called at each safe point."""

    def __enter__(self) -> Self:
        return self  # the signals are those of the comparison

    def check(self) -> None:
        """Stop if the file is there."""
        if self.each_check is not None:
            self.each_check()
        if self._shared.stop.exists():
            raise Stopped(self._shared.advice)


class _Clock:
    """The seconds that a member has taken, those of earlier processes included, up to the last saved ones."""

    def __init__(self, file: Checkpoint) -> None:
        self._file = file
        before = file.load() or {"seconds": 0.0}
        self._watch = Stopwatch(before["seconds"])

    @property
    def seconds(self) -> float:
        return self._watch.seconds

    def save_when_due(self) -> None:
        if self._file.due:
            self._file.save({"seconds": self.seconds})


@contextlib.contextmanager
def _on_one_core(*, quiet: bool) -> Iterator[None]:
    """Compute on one core, as numbers depend on it; the processes of members say nothing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if not quiet:
            yield
            return
        with verbosity(Verbosity.QUIET), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(threads)


def _log(folder: RunFolder, entry: Entry, report: dict[str, Any]) -> None:
    """Write the result to TensorBoard, where members are runs beside each other."""
    pruned, dense, own = report["pruned"], report["dense"], report["system"]
    metrics: dict[str, float] = {
        "result/accuracy": pruned["accuracy"],
        "result/accuracy_drop": report["accuracy_drop"],
        "result/macs_ratio": pruned["macs"] / dense["macs"],
        "result/params_ratio": pruned["params"] / dense["params"],
        "result/file_ratio": pruned["file_bytes"] / dense["file_bytes"],
        "result/epochs": own["epochs"],
    }
    what: dict[str, bool | str | float | None] = {
        "method": entry.method,
        "kind": own["kind"],
        "target": entry.target,
        "seed": float(entry.seed),
    }
    folder.logger.record("hparams", HParam(what, metrics), exclude=NOT_TEXT)
    folder.log(metrics, 0)
