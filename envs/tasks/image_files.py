"""Image files that lie on the disk: their headers, what reading them will take, and words for broken ones."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, Self, TypeVar

from PIL import Image
from torch import Tensor

from ..io.memory import require_memory

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"}

_DECODING, _RESIZING = 8, 10
"""Bytes that Pillow 13 takes for a while: for a pixel of a coloured file (measured: 8.2), and for a pixel of
what it is resized to (9.7)."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class OnDisk(Generic[Item]):
    """A part of a data set of which nothing but the headers has been read.

    Args:
        items: N files, or what belongs together of them.
        strata: (N,) int64; see :class:`.splits.Part`.
    """

    items: tuple[Item, ...]
    strata: Tensor

    def __len__(self) -> int:
        return len(self.items)

    def take(self, indices: Tensor) -> Self:
        """Give some of the files, in the order of the indices (M,)."""
        return type(self)(tuple(self.items[k] for k in indices.tolist()), self.strata[indices])


class Header(NamedTuple):
    """What an image file says before its pixels: Pillow's mode, and width and height, pixels."""

    mode: str
    size: tuple[int, int]


def read_header(path: Path) -> Header:
    """Read the header of an image.

    Raises:
        ValueError: If it is no image, or has more pixels than Pillow opens.
    """
    with naming_the_file(path), Image.open(path) as image:
        return Header(image.mode, image.size)


@contextmanager
def naming_the_file(path: Path) -> Iterator[None]:
    """Say which file it was that Pillow could not read."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{path} claims to have more pixels than can be opened safely ({error}): make the image smaller"
        ) from error
    except (OSError, SyntaxError, ValueError) as error:  # PIL reports broken PNGs as SyntaxError
        raise ValueError(f"{path} cannot be read as an image: repair or remove it") from error


def check_image_size(image_size: int | None) -> None:
    """Refuse a size below one pixel.

    Raises:
        ValueError: If it is one.
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"the image size has to be at least one pixel, got {image_size}")


def resized(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Give the width and height of an image whose shorter side becomes so many pixels."""
    scale = side / min(size)
    width, height = (max(round(length * scale), side) for length in size)
    return width, height


def require_room(
    headers: Counter[Header], size: tuple[int, int], depth: int, *, resize: int = 0, source: str
) -> None:
    """Refuse images that will not fit into memory.

    Args:
        headers: Of all of them.
        size: Width and height of what is kept, pixels.
        depth: Bytes of a pixel that is kept.
        resize: The shorter side before cutting out the middle, pixels; 0 leaves images as they are.
        source: Names them, for the message.

    Raises:
        ValueError: If reading them needs more memory than the process may take.
    """
    width, height = size
    decoding = 0
    readers = os.cpu_count() or 1  # each is at one of the largest images in the worst case
    for needed, count in sorted(((_passing(h.size, resize), n) for h, n in headers.items()), reverse=True):
        decoding += min(count, readers) * needed
        readers -= min(count, readers)
    images = headers.total()
    require_memory(
        images * width * height * depth + decoding,
        f"the {images:,} images of {source}, {width}x{height} pixels each,",
        "give fewer images, a smaller image size (--image-size), or a machine with more memory",
    )


def _passing(size: tuple[int, int], resize: int) -> int:
    """Count the bytes that are taken while an image is read."""
    (width, height), (new_width, new_height) = size, resized(size, resize) if resize else size
    return _DECODING * width * height + _RESIZING * new_width * new_height
