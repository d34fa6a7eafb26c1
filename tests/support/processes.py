"""What runs in processes of its own, which can be killed: they import this module, tests are no package."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, Dataset

from secateur.agent.cli import main
from secateur.agent.run.locks import lock_folder, unlock_folder
from secateur.envs.cost import timer
from secateur.envs.io import atomic_write
from secateur.envs.recovery.checkpoint import Checkpoint
from secateur.envs.tasks import R2, LoaderTask, get_task, load_segmentation

# A server that has imported everything forks in milliseconds: real processes, killed for real.
PROCESSES = multiprocessing.get_context("forkserver")
_HEAVY = ("commands.process", "procedures.preparation", "procedures.prune", "reporting.report", "run.folder")
PROCESSES.set_forkserver_preload(["secateur.agent.cli", *(f"secateur.agent.{name}" for name in _HEAVY)])


def perform(words: list[str], errors: Path, file_size: int | None = None, memory: int | None = None) -> None:
    """Run the command line in a process of its own, with a checkpoint after nearly every step.

    Args:
        words: What follows the program's name.
        errors: File that gets what it says on stderr.
        file_size: Bytes that a file may have.
        memory: Bytes of address space that the process may take beside what it has already.
    """
    torch.set_num_threads(1)
    timer.time_passes = partial(timer.time_passes, seconds=0.01)
    assert Checkpoint.__init__.__kwdefaults__ is not None
    Checkpoint.__init__.__kwdefaults__["seconds"] = 0.05
    if file_size is not None:
        atomic_write._LEAST_SPACE = 0  # the disk fills up later
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, resource.RLIM_INFINITY))
    if memory is not None:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        resource.setrlimit(
            resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, resource.RLIM_INFINITY)
        )
    # Not a file of this process: its size may be limited.
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        read, write = os.pipe()
        os.dup2(write, 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        os.set_blocking(read, False)
        code = main(words)
        sys.stderr.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        errors.write_bytes(b"")
        with contextlib.suppress(BlockingIOError):  # nothing was said: the run was finished already
            errors.write_bytes(os.read(read, 65536))
    os._exit(code)


def begin(
    words: list[str], errors: Path, file_size: int | None = None, memory: int | None = None
) -> BaseProcess:
    process = PROCESSES.Process(target=perform, args=(words, errors, file_size, memory))
    process.start()
    return process


def finish(
    words: list[str], errors: Path, file_size: int | None = None, memory: int | None = None
) -> int | None:
    process = begin(words, errors, file_size, memory)
    process.join()
    return process.exitcode


def report_peak(small: Path, root: Path, scenes: bool, answer: Connection) -> None:
    """Load a folder of images, or of images and masks, and send how far the process's memory grew, bytes.

    A small folder is loaded first: not all kernels count the pages of code as a process's until it runs them.
    """
    load_segmentation(small) if scenes else get_task(str(small), root=small)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    load_segmentation(root) if scenes else get_task(str(root), root=root)
    answer.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)


class Images(Dataset[tuple[Tensor, Tensor]]):
    """Examples of floats, made when they are read."""

    def __len__(self) -> int:
        return 4000

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.full((3, 64, 64), float(index)), torch.zeros(1)


def report_peak_of_loader(kind: str, answer: Connection) -> None:
    """Read a data set into memory and send how far the process's memory grew, bytes, and how many values."""
    data = Images()
    loader = DataLoader(data, batch_size=50)
    train = {"examples": data, "loader": loader, "iterator": iter(loader)}[kind]
    few = [data[k] for k in range(4)]
    first: dict[str, object] = {
        "examples": few,
        "loader": DataLoader(few, batch_size=2),  # type: ignore[arg-type]
        "iterator": iter(DataLoader(few, batch_size=2)),  # type: ignore[arg-type]
    }
    LoaderTask(
        train=first[kind],
        val=few,
        test=few,
        in_memory="always",
        loss=mse_loss,
        metric=R2(),
        workers=0,  # type: ignore[arg-type]
    )  # not all kernels count the pages of code as a process's until it runs them
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    LoaderTask(train=train, val=few, test=few, in_memory="always", loss=mse_loss, metric=R2(), workers=0)  # type: ignore[arg-type]
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    answer.send((peak, len(data) * 3 * 64 * 64))


def compete(folder: Path, begin: Event, rounds: int) -> None:
    """Hold the folder now and then; while it is held, nobody else may make the file that says so."""
    begin.wait()
    while rounds:
        try:
            lock = lock_folder(folder)
        except ValueError:
            continue
        (folder / "held").touch(exist_ok=False)
        (folder / "held").unlink()
        unlock_folder(lock)
        rounds -= 1
