"""Memory of a job: what its processes take, and what a training step alone takes."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

STEP = """
import resource, sys
import torch
import secateur.agent.cli, secateur.agent.procedures.prune, secateur.agent.procedures.opening
from secateur.envs.models import get_model
side, batch = map(int, sys.argv[2:])
torch.set_num_threads(1)
model = get_model(sys.argv[1], num_classes=2, in_channels=3)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(2):
    optimizer.zero_grad()
    model(torch.rand(batch, 3, side, side)).logsumexp(1).mean().backward()
    optimizer.step()
pages = int(open("/proc/self/statm").read().split()[5])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, pages * resource.getpagesize())
"""


def memory_of_a_step(network: str, side: int, batch: int, folder: Path) -> tuple[int, int]:
    """Return the memory of a process that imports everything and takes training steps, bytes.

    Returns:
        The largest resident memory, and what counts as data for a limit.
    """
    words = [sys.executable, "-W", "ignore", "-c", STEP, network, str(side), str(batch)]
    text = subprocess.run(words, capture_output=True, cwd=folder, check=True, text=True).stdout
    resident, data = map(int, text.split())
    return resident, data


def run_within(limit: int, words: list[str], folder: Path) -> tuple[int, int, str]:
    """Run the command line; no process of it may have more data than a limit.

    Args:
        limit: Bytes of data that a process may have.
        words: What follows the program's name.
        folder: The current directory.

    Returns:
        The exit status, the largest memory of all its processes together, bytes, and stderr.
    """

    def set_limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "secateur", *words],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            preexec_fn=set_limit,
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(_memory, _tree(process.pid))))
            time.sleep(0.5)
    return process.returncode, peak, (folder / "stderr").read_text()


def _tree(pid: int) -> list[int]:
    """Return a process and all that it started."""
    found = [pid]
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += _tree(int(child))
    except OSError:  # it has ended
        pass
    return found


def _memory(pid: int) -> int:
    """Return the memory of a process, bytes; what several processes share is divided among them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
