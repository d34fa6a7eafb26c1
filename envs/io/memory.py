"""How much memory the process may still take, and one line where that is not enough.

psutil knows the memory of the machine, but not the limits of control groups, which are what counts in
containers and under Slurm and have to be read from files anyway. The machine's own numbers are one file more,
so psutil is no dependency. On other systems than Linux nothing is known, and nothing is refused.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class _Names(NamedTuple):
    """Files of a control group, and the words of its statistics for memory that is given up when needed."""

    limit: str
    used: str
    cached: tuple[str, ...]


_V1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file"))
_V2 = _Names("memory.max", "memory.current", ("active_file", "inactive_file"))

_SIGNS = ("DefaultCPUAllocator", "not enough memory", "out of memory", "bad_alloc", "ALLOC_FAILED")
"""What torch writes into a RuntimeError: its allocators on Linux, Windows and CUDA, C++, and libraries."""


def available_memory(root: Path = Path("/")) -> int | None:
    """Give the bytes that the process may still take, free swap included.

    Args:
        root: Of the file system.

    Returns:
        The least of what the machine, the control groups and the limit of the address space leave; None where
        nothing is known.
    """
    known = [*_left_on_machine(root), *_left_in_groups(root), *_left_of_address_space(root)]
    return max(0, min(known)) if known else None


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Refuse what will not fit, before it is begun.

    Args:
        needed: Bytes.
        what: Needs them, in the plural.
        remedy: What the user can do.

    Raises:
        ValueError: If that much memory is not there.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise ValueError(f"{what} need {size(needed)} of memory, available are {size(available)}: {remedy}")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory could not be had, on the CPU or a GPU."""
    said = isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)
    return said or isinstance(error, MemoryError)


def out_of_memory_line(error: BaseException) -> str:
    """Say in one sentence that memory ran out, how much was asked for, and what to do."""
    text = str(error)
    asked = re.search(r"allocate ([\d.]+) (\w+)", text)
    number = "" if asked is None else f"{asked[1]} {asked[2]}"
    if asked is not None and asked[2] == "bytes":
        number = size(int(float(asked[1])))
    where = " of the GPU" if "CUDA" in text else ""
    wanted = f" when {number} more were asked for" if number else ""
    return (
        f"the memory{where} ran out{wanted}: give fewer images, a smaller --image-size, a smaller network, "
        "or a machine with more memory"
    )


def size(count: int) -> str:
    """Write a number of bytes as people do, such as ``1.8 GB``."""
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
    """Give what each control group that holds the process leaves it: a limit counts for all below."""
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
    if limit is None or used is None:  # the root has no limit, and "max" is none
        return
    counts = dict(line.partition(" ")[::2] for line in _lines(group / "memory.stat"))
    yield limit - used + sum(int(counts.get(name, 0)) for name in names.cached)


def _left_of_address_space(root: Path) -> Iterator[int]:
    if sys.platform == "win32":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = next((line.split()[0] for line in _lines(root / "proc/self/statm")), None)
    if limit != resource.RLIM_INFINITY and pages is not None:
        yield limit - int(pages) * resource.getpagesize()


def _lines(path: Path) -> list[str]:
    """Read what the kernel tells; nothing where it does not."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
