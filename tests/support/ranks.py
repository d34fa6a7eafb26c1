"""Ranks of ``torch.distributed`` as real processes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore

from secateur.envs.modules.process_group import join
from support.processes import PROCESSES, perform
from support.rank_work import IN_FLOAT32


def on_ranks(work: Callable[..., Any], *arguments: Any, number: int = 2) -> list[Any]:
    """Run an importable function on several ranks; return what it returns on each, in their order."""
    pipes = [PROCESSES.Pipe(duplex=False) for _ in range(number)]
    job = _new_job(number)
    processes = [
        PROCESSES.Process(target=_work, args=(job | _place(k), answer, work, arguments))
        for k, (_, answer) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    for _, answer in pipes:
        answer.close()
    results = [torch.load(io.BytesIO(result.recv_bytes()), weights_only=False) for result, _ in pipes]
    for process in processes:
        process.join()
    return results


def begin_ranks(words: Sequence[str], errors: Path, number: int = 2) -> list[BaseProcess]:
    """Run the command line on ranks; each writes what it says on stderr to ``errors.<rank>``."""
    job = _new_job(number) if number > 1 else {}
    processes = [
        PROCESSES.Process(target=_perform, args=(job | _place(k), list(words), errors.with_suffix(f".{k}")))
        for k in range(number)
    ]
    for process in processes:
        process.start()
    return processes


def finish_ranks(words: Sequence[str], errors: Path, number: int = 2) -> tuple[list[int | None], list[str]]:
    """Run the command line on ranks to its end; return their exit codes, and what each said on stderr."""
    processes = begin_ranks(words, errors, number)
    return join_ranks(processes, errors)


def join_ranks(processes: Sequence[BaseProcess], errors: Path) -> tuple[list[int | None], list[str]]:
    """Wait for the end of ranks; return their exit codes, and what each said on stderr."""
    for process in processes:
        process.join()
    files = [errors.with_suffix(f".{k}") for k in range(len(processes))]
    return [process.exitcode for process in processes], [
        file.read_text() if file.is_file() else "" for file in files
    ]


_stores: list[TCPStore] = []


def _new_job(ranks: int) -> dict[str, str]:
    """Return the variables of a job, with a store for it that, as torchrun's, none of the ranks has."""
    _stores.append(TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))
    return {
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_stores[-1].port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }


def _place(rank: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def _work(variables: dict[str, str], answer: Connection, work: Callable[..., Any], arguments: Any) -> None:
    os.environ |= variables
    torch.set_num_threads(1)
    join()
    content = io.BytesIO()  # tensors in a pipe would be shared with a process that has ended
    torch.save(work(*arguments), content)
    answer.send_bytes(content.getvalue())


def _perform(variables: dict[str, str], words: list[str], errors: Path) -> None:
    os.environ |= variables
    with IN_FLOAT32():  # bfloat16 rounds the gradients of each share by itself
        perform(words, errors)
