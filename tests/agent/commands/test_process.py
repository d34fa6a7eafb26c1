"""What the process asks of the machine."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import ctypes, resource, torch
from secateur.agent.commands.process import keep_freed_memory

def step():
    blocks = [torch.zeros(2**20) for _ in range(40)]  # 160 MiB in all, as activations are

ctypes.CDLL(None).mallopt(-3, 2**17)  # as a process begins; what an import frees may have raised it
{wish}
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_steps_of_training_get_the_memory_of_the_step_before() -> None:
    def page_faults(wish: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", STEPS.format(wish=wish)], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert page_faults("keep_freed_memory()") < 0.1 * page_faults("")
