"""What the process asks of the machine."""

import platform
import subprocess
import sys
import threading

import pytest

from secateur.agent.commands.process import one_line_of_threads

STEPS = """
import ctypes, resource, torch
from secateur.agent.commands.process import keep_freed_memory

def step():
    blocks = [torch.zeros(2**20) for _ in range(40)]  # 160 MiB in all, as activations are

def page_faults():
    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

ctypes.CDLL(None).mallopt(-3, 2**17)  # as a process begins; what an import frees may have raised it
as_it_begins = page_faults()
keep_freed_memory()
print(as_it_begins, page_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_steps_of_training_get_the_memory_of_the_step_before() -> None:
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    as_it_begins, kept = map(int, done.stdout.split())
    assert kept < 0.1 * as_it_begins


def test_a_thread_that_cannot_write_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def write() -> None:
        raise OSError("no space")

    with one_line_of_threads():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert capsys.readouterr().err == "secateur: warning: no space\n"
