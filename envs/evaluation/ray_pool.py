"""Workers as actors of Ray, on one or several machines.

Objects are put into Ray's store once. Ray itself is told nothing of restarts: a lost actor is replaced here,
as any other worker.
"""

import contextlib
import importlib.util
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import torch

from .pool import Pool, WorkerLostError
from .worker import Answer, Worker

_PATIENCE = 5.0
"""Seconds in which the head of a cluster has to answer."""

OWN_CLUSTER = "local"
"""The address with which Ray starts a cluster on this machine."""


def check_ray(address: str | None) -> None:
    """Check that Ray is installed, and that something answers at the address of a cluster.

    Ray itself tries an address for minutes, and writes lines of its own meanwhile.

    Args:
        address: Such as ``10.0.0.1:6379``; None checks none.

    Raises:
        ValueError: If it is not, or nothing does.
    """
    if importlib.util.find_spec("ray") is None:
        raise ValueError("Ray is not installed; install secateur[ray], or leave out --engine")
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no Ray cluster answers at {address} ({error}); give the address of its head, such as "
            "10.0.0.1:6379, or --engine ray"
        ) from error


class RayPool(Pool[Any]):
    """Hold workers that are actors of Ray, one on each GPU or core of a cluster.

    A cluster on this machine that is started here is also ended here.

    Args:
        size: Number of workers, at least 1; None takes as many as the cluster has GPUs or cores.
        device: The device of the networks.
        address: Address of the cluster; None takes that in ``RAY_ADDRESS``, or else starts one on this
            machine. It is not looked at if the program is connected to a cluster already.

    Raises:
        ValueError: If Ray is not installed, there is no such cluster, or it is too small.
    """

    def __init__(self, size: int | None, device: torch.device, address: str | None = None) -> None:
        try:
            import ray
        except ImportError:
            raise ValueError("Ray is not installed; install secateur[ray], or leave out --engine") from None
        self._ray, self._connected = ray, not ray.is_initialized()
        if self._connected:
            _connect(address or os.environ.get("RAY_ADDRESS") or OWN_CLUSTER)
        kind = "GPU" if device.type == "cuda" else "CPU"
        there = int(ray.available_resources().get(kind, 0))  # an actor without one would wait for ever
        if not 1 <= (size or there) <= there:
            self._disconnect()
            free = f"give --search-workers 1 to {there}" if there else "wait until one is free"
            raise ValueError(f"the Ray cluster has {there} free {kind}s; {free}")
        super().__init__(size or there)
        resources: dict[str, Any] = {"num_gpus": 1, "num_cpus": 0} if kind == "GPU" else {"num_cpus": 1}
        self._actor = ray.remote(**resources)(_RayWorker)
        self._running: dict[Any, Any] = {}  # actors, with the reference to their answer
        for place in range(self.size):
            self._worker(place)

    def __exit__(self, *error: object) -> None:
        """Stop all workers, and the cluster if it was started here."""
        super().__exit__(*error)
        self._sent.clear()
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connected:
            self._ray.shutdown()

    def _stored(self, content: bytes) -> Any:
        return self._ray.put(content)

    def _start(self, place: int) -> Any:
        return self._actor.remote()

    def _send(self, worker: Any, job: bytes, sent: dict[int, Any]) -> None:
        self._running[worker] = worker.run.remote(job, sent)

    def _wait(self, workers: list[Any]) -> list[Any]:
        ready, _ = self._ray.wait([self._running[worker] for worker in workers])
        return [worker for worker in workers if self._running[worker] in ready]

    def _receive(self, worker: Any) -> Answer:
        try:
            answer: Answer = self._ray.get(self._running.pop(worker))
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise WorkerLostError(f"an actor of Ray was lost: {reason}") from error
        return answer

    def _stop(self, worker: Any) -> None:
        self._running.pop(worker, None)
        self._ray.kill(worker)


class _RayWorker(Worker):
    """A worker as an actor."""

    def fetch(self, content: Any) -> bytes:
        """Get a packed object from Ray's store."""
        import ray

        fetched: bytes = ray.get(content)
        return fetched


def _connect(address: str) -> None:
    import ray

    own: dict[str, Any] = {}
    if address == OWN_CLUSTER:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody has agreed to statistics
        own = {"include_dashboard": False}
    with _own_signals():
        try:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **own)
        except Exception as error:  # Ray raises plain ones, too
            first = str(error).strip().partition("\n")[0]
            raise ValueError(
                f"there is no Ray cluster at {address} ({first}); start one with `ray start --head`"
            ) from error


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this program's handler of SIGTERM, which Ray replaces."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
