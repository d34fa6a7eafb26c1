"""Paths of very many files in little memory."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")
"""Suffixes of image files, in lower case."""


@dataclass(frozen=True)
class FileList:
    """The paths of N files, some 40 bytes each: a million ``Path`` objects take 300 MB.

    A process that reads the list copies none of it, as counting references to millions of objects would.

    Args:
        root: The folder that the names are relative to.
        names: All names, one after the other.
        ends: Where each name ends, (N,).
    """

    root: Path
    names: bytes
    ends: npt.NDArray[np.int64]

    @classmethod
    def of(cls, root: Path, names: Iterable[str]) -> FileList:
        """Store names of files, relative to a folder."""
        joined, ends = bytearray(), array("q")
        for name in names:
            joined += os.fsencode(name)
            ends.append(len(joined))
        return cls(root, bytes(joined), np.frombuffer(ends, np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> Path:
        start = int(self.ends[index - 1]) if index else 0
        return self.root / os.fsdecode(self.names[start : int(self.ends[index])])


def images_under(folder: Path) -> list[str]:
    """List the image files in a folder and its sub-folders, relative to it, sorted and without hidden ones.

    torchvision's ``make_dataset`` does the same and makes a tuple of each path, several hundred bytes.
    """
    found: list[str] = []
    above: dict[str, set[tuple[int, int]]] = {}  # of each place, the folders that it lies in
    for place, inside, names in os.walk(folder, followlinks=True):
        around = above.pop(place, set()) | {_identity(place)}
        # A link to a folder around it would go round in a circle.
        inside[:] = [name for name in inside if _identity(os.path.join(place, name)) not in around]  # noqa: PTH118
        above |= {os.path.join(place, name): around for name in inside}  # noqa: PTH118
        inner = os.path.relpath(place, folder)
        images = [name for name in names if is_image(name)]
        found += images if inner == "." else [os.path.join(inner, name) for name in images]  # noqa: PTH118
    is_flat = not any(os.sep in name for name in found)
    return sorted(found, key=None if is_flat else lambda name: name.split(os.sep))  # noqa: PTH206


def _identity(folder: str) -> tuple[int, int]:
    found = os.stat(folder)  # noqa: PTH116
    return found.st_dev, found.st_ino


def is_image(name: str) -> bool:
    """Return whether the name of a file is that of an image, and not hidden."""
    return name[0] != "." and name.lower().endswith(SUFFIXES)


def folders_in(folder: Path) -> Iterator[str]:
    """Yield the names of the folders in a folder, in any order; hidden ones are left out."""
    with os.scandir(folder) as entries:
        yield from (entry.name for entry in entries if entry.name[0] != "." and entry.is_dir())
