"""One member of a comparison: a system at a size with a seed, in a folder of its own.

What it leaves is what ``secateur prune`` leaves. Its network is timed later, when nothing else runs.
"""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
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
from .base import Job, Result, System
from .result_files import save_result
from .shared import Entry, Shared

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
class Outcome:
    """How a member ended.

    Args:
        state: Stopped means that it can go on.
        reason: Why it failed; "" if it did not.
    """

    state: Literal["finished", "failed", "stopped"]
    reason: str = ""


def run_member(shared: Shared, system: System, entry: Entry, alone: bool) -> Outcome:
    """Run a member to its end, or on from where an earlier process was stopped.

    Args:
        shared: What all members have in common.
        system: The system.
        entry: What the member does.
        alone: Whether this process is its own, and is stopped by the stop file only.

    Raises:
        OSError: If something cannot be written; the comparison can be resumed.
    """
    path = shared.out / entry.folder
    if (path / REPORT).is_file() or (path / MEASURED).is_file():
        return Outcome("finished")
    if shared.stop.exists():
        return Outcome("stopped")
    try:
        with _own_process(alone), open_member(shared, entry, alone=alone) as folder:
            clock = _Clock(folder)
            result = run_system(shared, system, entry, folder)
            report = save_result(shared, entry, system.kind, result, clock.seconds, path)
            folder.keeps_checkpoints = bool(report["system"]["not_loadable"])
            _log(folder, entry, report)
    except Stopped:
        return Outcome("stopped")
    except OSError:
        raise
    except Exception as error:  # systems of strangers may raise anything, and the others shall go on
        if is_out_of_memory(error):
            reason = "the memory does not suffice"
        else:
            log_verbose(f"{entry.folder}: {error!r}")
            reason = first_line(error, _REASON)
            if not isinstance(error, ValueError | TypeError | FloatingPointError):
                reason = f"{type(error).__name__}: {reason}"
        shutil.rmtree(path, ignore_errors=True)
        return Outcome("failed", reason)
    return Outcome("finished")


def open_member(shared: Shared, entry: Entry, *, alone: bool) -> RunFolder:
    """Open the folder of a member, new or as an earlier process has left it."""
    path = shared.out / entry.folder
    pruning = shared.config.pruning(entry.target, entry.seed)
    return RunFolder(
        path,
        Member(shared.name, entry.method, shared.data, pruning, shared.config.seeds[0]),
        resumed=(path / CONFIG).is_file(),
        advice=shared.advice,
        dense_weights=shared.dense_weights,
        stopping=_StopWithAll(shared.advice, shared.stop, on_signal=not alone),
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


class _StopWithAll(GracefulStop):
    """Stop where a file appears, too: the process that has the members begun cannot reach others otherwise.

    Args:
        advice: What resumes the comparison.
        file: The file.
        on_signal: Whether signals stop it, too.
    """

    def __init__(self, advice: str, file: Path, *, on_signal: bool) -> None:
        super().__init__(advice)
        self._file, self._on_signals, self._asked = file, on_signal, advice
        self.each_check: list[Any] = []

    def __enter__(self) -> Self:
        return super().__enter__() if self._on_signals else self

    def check(self) -> None:
        """Stop if a signal was received or the file is there."""
        for call in self.each_check:
            call()
        if self._file.exists():
            raise Stopped(self._asked)
        super().check()


class _Clock:
    """The seconds that a member has taken, those of earlier processes included, up to the last saved ones."""

    def __init__(self, folder: RunFolder) -> None:
        self._file: Checkpoint = folder.checkpoint("seconds")
        before = self._file.load() or {"seconds": 0.0}
        self._watch = Stopwatch(before["seconds"])
        stopping = folder._stopping
        assert isinstance(stopping, _StopWithAll)
        stopping.each_check.append(self._save_when_due)

    @property
    def seconds(self) -> float:
        return self._watch.seconds

    def _save_when_due(self) -> None:
        if self._file.due:
            self._file.save({"seconds": self.seconds})


@contextlib.contextmanager
def _own_process(alone: bool) -> Iterator[None]:
    """Compute on one core, as numbers depend on it; a process that is alone says nothing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if not alone:
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
