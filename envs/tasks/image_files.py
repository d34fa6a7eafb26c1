"""Image files on disk: their headers, the memory for reading them, and errors for broken ones."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, Self, TypeVar

from PIL import Image
from torch import Tensor

from ..io.memory import require_memory
from ..io.ranges import check_whole

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"}

_DECODING, _RESIZING = 8, 10
"""Temporary memory of Pillow 13, bytes per pixel of a colour image (measured: 8.2), and of the resized image
(9.7)."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class OnDisk(Generic[Item]):
    """A part of a data set of which only the headers have been read.

    Args:
        items: N files, or groups of files that belong together.
        strata: (N,) int64; see :class:`.splits.Part`.
    """

    items: tuple[Item, ...]
    strata: Tensor

    def __len__(self) -> int:
        return len(self.items)

    def take(self, indices: Tensor) -> Self:
        """Return the items at the indices (M,), in their order."""
        return type(self)(tuple(self.items[k] for k in indices.tolist()), self.strata[indices])


class Header(NamedTuple):
    """Header of an image file: Pillow's mode, and width and height, pixels."""

    mode: str
    size: tuple[int, int]


def read_header(path: Path) -> Header:
    """Read the header of an image.

    Raises:
        ValueError: If it is not an image, or has more pixels than Pillow opens.
    """
    with naming_the_file(path), Image.open(path) as image:
        return Header(image.mode, image.size)


def reading_pool(workers: int | None) -> ThreadPoolExecutor:
    """Create the threads that read files.

    Args:
        workers: Their number, at least 1; None is one for each core.

    Raises:
        ValueError: If the number is out of its range.
    """
    if workers is not None:
        check_whole("workers", workers, 1)
    return ThreadPoolExecutor(workers or os.cpu_count())


@contextmanager
def naming_the_file(path: Path) -> Iterator[None]:
    """Convert Pillow's errors to a ValueError that names the file."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{path} claims to have more pixels than can be opened safely: make the image smaller"
        ) from error
    except (OSError, SyntaxError, ValueError) as error:  # PIL reports broken PNGs as SyntaxError
        raise ValueError(f"{path} cannot be read as an image: repair or remove it") from error


def check_image_size(image_size: int | None) -> None:
    """Check that an image size, if given, is at least one pixel.

    Raises:
        ValueError: If it is not.
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"the image size has to be at least one pixel, got {image_size}")


def resized(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the width and height of an image after resizing its shorter side to ``side`` pixels."""
    scale = side / min(size)
    width, height = (max(round(length * scale), side) for length in size)
    return width, height


def require_memory_for(
    headers: Counter[Header],
    size: tuple[int, int],
    depth: int,
    *,
    resize: int = 0,
    source: str,
    workers: int | None = None,
) -> None:
    """Check that images fit into memory.

    Args:
        headers: Headers of all images.
        size: Width and height of the images in memory, pixels.
        depth: Bytes per pixel in memory.
        resize: Length of the shorter side before the central crop, pixels; 0 does not resize or crop.
        source: Name of the data, for the message.
        workers: Threads that read files, at least 1; None is one for each core.

    Raises:
        ValueError: If reading them needs more memory than is available.
    """
    width, height = size
    decoding = 0
    readers = workers or os.cpu_count() or 1  # in the worst case, each reads one of the largest images
    needs = ((_temporary_memory(header.size, resize), count) for header, count in headers.items())
    for needed, count in sorted(needs, reverse=True):
        decoding += min(count, readers) * needed
        readers -= min(count, readers)
    images = headers.total()
    require_memory(
        images * width * height * depth + decoding,
        f"the {images:,} images of {source}, {width}x{height} pixels each,",
        "give fewer images, a smaller image size (--image-size), or a machine with more memory",
    )


def _temporary_memory(size: tuple[int, int], resize: int) -> int:
    """Return the bytes of temporary memory for reading an image."""
    (width, height), (new_width, new_height) = size, resized(size, resize) if resize else size
    return _DECODING * width * height + _RESIZING * new_width * new_height
