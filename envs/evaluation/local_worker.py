"""The process of a worker on this machine. Torch is imported after signals are ignored."""

import os
import pickle
import select
import signal
import threading
from multiprocessing.connection import Connection


def main(end: int) -> None:
    """Run jobs until the other process closes the pipe.

    Args:
        end: File descriptor of this end of the pipe.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # schedulers send it to all processes of a job
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_other, args=(end,), daemon=True).start()
    import cloudpickle

    from .worker import Worker

    worker, pipe = Worker(), Connection(end)
    while True:
        try:
            content = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        answer = cloudpickle.dumps(worker.run(*pickle.loads(content)))
        try:
            pipe.send_bytes(answer)
        except OSError:
            return


def _end_with_the_other(end: int) -> None:
    """End this process, whatever it does, as soon as the other one has gone."""
    hang_up = select.poll()
    hang_up.register(end, 0)  # nothing but the other end's closing
    hang_up.poll()
    os._exit(0)
