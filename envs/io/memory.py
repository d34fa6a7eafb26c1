"""Memory available to the process, and messages for the case that it is not enough.

psutil reports the memory of the machine, but not the limits of control groups, which apply in containers and
under Slurm. These have to be read from files anyway, and the machine's numbers are one more file, so psutil
is not a dependency. On systems other than Linux, available memory is unknown and nothing is refused.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class _Names(NamedTuple):
    """Names of the files of a control group, and of the entries in its statistics for reclaimable memory."""

    limit: str
    used: str
    cached: tuple[str, ...]


_V1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file"))
_V2 = _Names("memory.max", "memory.current", ("active_file", "inactive_file"))

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3)."""

_MESSAGES = ("DefaultCPUAllocator", "not enough memory", "out of memory", "bad_alloc", "ALLOC_FAILED")
"""Parts of torch's RuntimeErrors from its allocators on Linux, Windows and CUDA, C++, and libraries."""


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that the process can still allocate, including free swap.

    Args:
        root: Root of the file system.

    Returns:
        The smallest of the amounts left by the machine, the control groups and the limits of the process;
        None if all are unknown.
    """
    known = [*_left_on_machine(root), *_left_in_groups(root), *_left_of_limits(root)]
    return max(0, min(known)) if known else None


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Check that enough memory is available.

    Args:
        needed: Number of bytes.
        what: What needs them, in the plural, for the message.
        remedy: What the user can do, for the message.

    Raises:
        ValueError: If less memory is available.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise ValueError(f"{what} need {size(needed)} of memory, available are {size(available)}: {remedy}")


def keep_freed_memory() -> None:
    """Keep up to 2 GiB of freed memory in the process, as each training step allocates it again.

    Otherwise the system zeroes the same pages in every step: with distillation and batches of 128, a step
    takes 0.21 s instead of 0.19 s of one core for ResNet-20, and 0.53 s instead of 0.49 s for ResNet-56. Does
    nothing if the C library is not glibc.
    """
    _set_glibc(_MMAP_THRESHOLD, 2**25)  # the largest value allowed; larger blocks are returned
    _set_glibc(_TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> None:
    """Let glibc map blocks of a megabyte and more on their own, so that freed ones go back to the system.

    Otherwise blocks of different lifetimes leave gaps: a process that read batches of 25 MB grew by 25 MB
    with every batch. Does nothing if the C library is not glibc.
    """
    _set_glibc(_MMAP_THRESHOLD, 2**20)


def _set_glibc(parameter: int, value: int) -> None:
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(parameter, value)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the memory of the CPU or a GPU ran out."""
    is_from_torch = isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)
    return is_from_torch or isinstance(error, MemoryError)


def out_of_memory_line(error: BaseException) -> str:
    """Return a message that the memory ran out, with the requested amount and remedies."""
    text = str(error)
    match = re.search(r"allocate ([\d.]+) (\w+)", text)
    amount = "" if match is None else f"{match[1]} {match[2]}"
    if match is not None and match[2] == "bytes":
        amount = size(int(float(match[1])))
    of_gpu = " of the GPU" if "CUDA" in text else ""
    request = f" when {amount} more were requested" if amount else ""
    return (
        f"the memory{of_gpu} ran out{request}: give fewer images, a smaller --image-size, a smaller network, "
        "or a machine with more memory"
    )


def size(count: int) -> str:
    """Format a number of bytes with a unit, such as ``1.8 GB``."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB")):
        if count >= 1000**power:
            return f"{count / 1000**power:,.1f} {unit}"
    return f"{count / 1000:.1f} kB"


def _left_on_machine(root: Path) -> Iterator[int]:
    numbers = {
        name: int(value.split()[0]) * 1024
        for name, _, value in (line.partition(":") for line in _lines(root / "proc/meminfo"))
        if name in ("MemAvailable", "SwapFree")
    }
    if "MemAvailable" in numbers:
        yield sum(numbers.values())


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield the memory left by each control group of the process; the limits of all ancestors apply."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, names = root / "sys/fs/cgroup", _V2
        elif "memory" in controllers.split(","):
            mount, names = root / "sys/fs/cgroup/memory", _V1
        else:
            continue
        innermost = mount / path.lstrip("/")
        for folder in (innermost, *innermost.parents):
            if folder.is_relative_to(mount):
                yield from _left_in(folder, names)


def _left_in(group: Path, names: _Names) -> Iterator[int]:
    limit, used = (
        next((int(line) for line in _lines(group / name) if line.isdigit()), None)
        for name in (names.limit, names.used)
    )
    if limit is None or used is None:  # the root has no limit, and "max" means none
        return
    counts = dict(line.partition(" ")[::2] for line in _lines(group / "memory.stat"))
    yield limit - used + sum(int(counts.get(name, 0)) for name in names.cached)


def _left_of_limits(root: Path) -> Iterator[int]:
    """Yield what is left of the process's own limits: of its address space, and of its data in it."""
    if sys.platform == "win32":
        return
    import resource

    pages = next((line.split() for line in _lines(root / "proc/self/statm")), None)
    for kind, column in ((resource.RLIMIT_AS, 0), (resource.RLIMIT_DATA, 5)):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY and pages is not None:
            yield limit - int(pages[column]) * resource.getpagesize()


def _lines(path: Path) -> list[str]:
    """Read the lines of a kernel file; none if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
