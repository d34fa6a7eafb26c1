"""Workers in processes of their own on this machine, one on each GPU or each on a core.

A worker is a new Python process, not a fork, which could use neither CUDA nor several threads. It does not
import the script that runs here, so that scripts need no ``if __name__ == "__main__"``.
"""

import contextlib
import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

import torch

from .pool import Pool, WorkerLostError
from .worker import Answer

_MAIN = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {module} import main; main({end})"


@dataclass(frozen=True, eq=False)
class _Local:
    """A worker process, and this end of the pipe to it."""

    process: "subprocess.Popen[bytes]"
    pipe: Connection


class LocalPool(Pool[_Local]):
    """Hold workers in processes on this machine.

    They end with this process, however it ends: a worker whose pipe is closed stops.

    Args:
        size: Number of workers, at least 1.
        device: The device of the networks; on GPUs, workers take turns with those there are.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        super().__init__(size)
        self._on_gpu = device.type == "cuda"
        for place in range(size):  # all at once, as each imports torch
            self._worker(place)

    def _start(self, place: int) -> _Local:
        here, there = Pipe()
        module = f"{__package__}.local_worker"
        with there:
            process = subprocess.Popen(
                [sys.executable, "-c", _MAIN.format(module=module, end=there.fileno()), json.dumps(sys.path)],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a user's loss prints is no result
                env=os.environ | self._environment(place),
                pass_fds=[there.fileno()],
                process_group=0,  # Ctrl-C is for this process, which stops them
            )
        return _Local(process, here)

    def _environment(self, place: int) -> dict[str, str]:
        threads = {"OMP_NUM_THREADS": "1"}
        if not self._on_gpu:
            return threads
        given = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = given.split(",") if given else [str(k) for k in range(torch.cuda.device_count())]
        return threads | {"CUDA_VISIBLE_DEVICES": devices[place % len(devices)]}

    def _send(self, worker: _Local, job: bytes, sent: dict[int, Any]) -> None:
        try:
            worker.pipe.send_bytes(pickle.dumps((job, sent)))
        except OSError as error:
            raise _lost(worker) from error

    def _wait(self, workers: list[_Local]) -> list[_Local]:
        ready = wait([worker.pipe for worker in workers])
        return [worker for worker in workers if worker.pipe in ready]

    def _receive(self, worker: _Local) -> Answer:
        try:
            answer: Answer = pickle.loads(worker.pipe.recv_bytes())
        except (EOFError, OSError) as error:
            raise _lost(worker) from error
        return answer

    def _stop(self, worker: _Local) -> None:
        worker.pipe.close()
        worker.process.kill()
        worker.process.wait()


def _lost(worker: _Local) -> WorkerLostError:
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.process.wait(1)
    return WorkerLostError(f"worker {worker.process.pid} ended with status {worker.process.poll()}")
