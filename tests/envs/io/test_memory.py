"""What memory is left is read from what the kernel tells, and errors that say it ran out are known."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from secateur.envs.io.memory import available_memory, is_out_of_memory, out_of_memory_line, require_memory

MB = 1024**2


def machine(root: Path, files: dict[str, str], *, megabytes: int = 1000, swap: int = 0) -> Path:
    """Lay out what the kernel tells of a machine."""
    meminfo = f"MemTotal: 9 kB\nMemAvailable: {megabytes * 1024} kB\nSwapFree: {swap * 1024} kB\n"
    for name, text in {"proc/meminfo": meminfo, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def group(folder: str, limit: int | str, used: int, cached: int = 0) -> dict[str, str]:
    """Lay out a control group of version 2, in MB."""
    written = limit if isinstance(limit, str) else str(limit * MB)
    return {
        f"{folder}/memory.max": f"{written}\n",
        f"{folder}/memory.current": f"{used * MB}\n",
        f"{folder}/memory.stat": f"anon 5\nactive_file 0\ninactive_file {cached * MB}\n",
    }


def test_without_a_limit_the_machine_and_its_swap_count(tmp_path: Path) -> None:
    assert available_memory(machine(tmp_path, {}, swap=500)) == 1500 * MB


def test_a_container_has_what_its_group_leaves_and_its_cache_can_be_given_up(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", **group("sys/fs/cgroup", 300, 250, cached=100)}
    assert available_memory(machine(tmp_path, files)) == 150 * MB


def test_the_tightest_of_nested_groups_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/slurm/job/step\n",
        **group("sys/fs/cgroup/slurm/job/step", "max", 10),
        **group("sys/fs/cgroup/slurm/job", 400, 320),
        **group("sys/fs/cgroup/slurm", 900, 320),
    }
    assert available_memory(machine(tmp_path, files)) == 80 * MB


def test_groups_of_version_1_count_too(tmp_path: Path) -> None:
    folder = "sys/fs/cgroup/memory/docker/a"
    files = {
        "proc/self/cgroup": "5:cpu,cpuacct:/docker/a\n4:memory:/docker/a\n0::/\n",
        f"{folder}/memory.limit_in_bytes": str(300 * MB),
        f"{folder}/memory.usage_in_bytes": str(200 * MB),
        f"{folder}/memory.stat": f"inactive_file 0\ntotal_inactive_file {50 * MB}\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": str(300 * MB),
    }
    assert available_memory(machine(tmp_path, files)) == 150 * MB


def test_a_group_that_is_already_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", **group("sys/fs/cgroup", 300, 310)}
    assert available_memory(machine(tmp_path, files)) == 0


def test_where_nothing_is_known_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_memory(tmp_path) is None
    monkeypatch.setattr("secateur.envs.io.memory.available_memory", lambda: None)
    require_memory(2**80, "all the images", "buy more")


def test_this_machine_has_some() -> None:
    there = available_memory()
    assert there is None or there > 10 * MB


def test_what_does_not_fit_is_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.envs.io.memory.available_memory", lambda: 1_500_000_000)
    require_memory(1_500_000_000, "the images", "give fewer")
    with pytest.raises(
        ValueError, match=r"^the images need 200\.0 GB of memory, available are 1\.5 GB: give fewer$"
    ):
        require_memory(200_000_000_000, "the images", "give fewer")


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: torch.empty(2**50, dtype=torch.uint8), "when 1,125.9 TB more were requested"),
        (lambda: np.empty(2**50, np.uint8), "when 1.00 PiB more were requested"),
        (lambda: bytearray(2**60), "the memory ran out: give fewer images"),
    ],
    ids=["torch", "numpy", "python"],
)
def test_errors_that_say_that_memory_ran_out_are_known(ask: object, said: str) -> None:
    assert callable(ask)
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        ask()
    assert is_out_of_memory(caught.value)
    assert said in out_of_memory_line(caught.value)


def test_a_gpus_memory_is_named() -> None:
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total of 1 GiB"
    )
    assert is_out_of_memory(error)
    assert "the memory of the GPU ran out when 20.00 GiB more" in out_of_memory_line(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory"), KeyError("x")])
def test_other_errors_are_others(error: Exception) -> None:
    assert not is_out_of_memory(error)


STEPS = """
import ctypes, resource, torch
from secateur.envs.io.memory import keep_freed_memory

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
