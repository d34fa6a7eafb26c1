"""The command line in real processes, which can be killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from secateur.agent.cli import main
from secateur.envs.cost import timer
from secateur.envs.recovery.checkpoint import Checkpoint

# A server that has imported everything forks in milliseconds: real processes, killed for real.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["secateur.agent.cli", "tensorboard"])


def perform(words: list[str], errors: Path, file_size: int | None = None) -> None:
    """Run the command line in a process of its own, with a checkpoint after nearly every step."""
    torch.set_num_threads(1)
    timer.latency_ms = partial(timer.latency_ms, seconds=0.01)
    assert Checkpoint.__init__.__kwdefaults__ is not None
    Checkpoint.__init__.__kwdefaults__["seconds"] = 0.05
    if file_size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, resource.RLIM_INFINITY))
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
        with contextlib.suppress(BlockingIOError):  # where nothing was said: a run was finished already
            errors.write_bytes(os.read(read, 65536))
    os._exit(code)


def begin(words: list[str], errors: Path, file_size: int | None = None) -> BaseProcess:
    process = PROCESSES.Process(target=perform, args=(words, errors, file_size))
    process.start()
    return process


def finish(words: list[str], errors: Path, file_size: int | None = None) -> int | None:
    process = begin(words, errors, file_size)
    process.join()
    return process.exitcode
